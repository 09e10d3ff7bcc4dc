"""A platform of real processes that a test may kill, freeze and starve: Valkey, gateway, trainers,
and the inference service where it is needed."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shared.storage import Storage
from tests.chaos import processes
from tests.chaos.client import Client
from tests.chaos.history import History
from tests.chaos.monitor import Monitor
from tests.chaos.services import (
    ADMIN_KEY,
    GATEWAY,
    HUB_TOKEN,
    INTERNAL_TOKEN,
    Service,
    is_open,
    is_ready,
    plan,
)
from tests.chaos.stages import Stages
from tests.chaos.times import BUSY_SECONDS
from tests.trainer_service.tiny import prepare_tiny_model
from tests.valkey import Valkey

STEP_SECONDS = 0.1


@dataclass
class Stack:
    """All of them. What the tests do to it goes through here; what they see, through ``client``."""

    folder: Path
    valkey: Valkey
    stages: Stages
    history: History
    storage: Storage
    services: dict[str, Service]
    client: Client
    monitor: Monitor = field(init=False)

    @property
    def database(self) -> Path:
        return self.storage.root / "genplat.db"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def secrets(self) -> tuple[str, ...]:
        return (ADMIN_KEY, INTERNAL_TOKEN, HUB_TOKEN, self.valkey.password)

    @property
    def trainers(self) -> list[str]:
        return [name for name in self.services if name.startswith("trainer")]

    def start(self, *names: str) -> None:
        """Start services and wait until they can be used."""
        for name in names:
            service = self.services[name]
            assert not service.running, f"{name} runs already"
            service.process = self._spawn(service)
            service.usual_files = None
        for name in names:
            self.wait_ready(name)

    def _spawn(self, service: Service) -> subprocess.Popen[bytes]:
        with (self.logs / f"{service.name}.log").open("ab") as log:
            return subprocess.Popen(
                service.command,
                env=service.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self, name: str, path: str = "/readyz", seconds: float = BUSY_SECONDS) -> None:
        service = self.services[name]
        deadline = time.monotonic() + seconds
        while not is_ready(service.port, path):
            assert service.running, f"{name} ended: {self.last_words(name)}"
            assert time.monotonic() < deadline, f"{name} is not ready: {self.last_words(name)}"
            time.sleep(0.05)

    def kill(self, name: str) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(name, signal.SIGKILL)
        self.wait_end(name)

    def signal(self, name: str, number: signal.Signals) -> None:
        service = self.services[name]
        assert service.process is not None
        service.process.send_signal(number)

    def wait_end(self, name: str, seconds: float = BUSY_SECONDS) -> int:
        """Until the process ended, by itself or as it was told; its exit code."""
        service = self.services[name]
        assert service.process is not None
        code = service.process.wait(seconds)
        service.process = None
        return code

    def terminate(self, name: str, seconds: float = BUSY_SECONDS) -> int:
        self.signal(name, signal.SIGTERM)
        return self.wait_end(name, seconds)

    def restart(self, name: str) -> None:
        """As a launcher does it that sees a process die."""
        if self.services[name].running:
            self.kill(name)
        self.services[name].process = None
        self.start(name)

    def rest(self) -> None:
        """After a scenario: everything runs, nothing is ordered, no run is under way."""
        self.stages.clear()
        self.pace(STEP_SECONDS)
        for name, service in self.services.items():
            if not service.running:
                service.process = None
                self.start(name)
            self.wait_ready(name)
        self.client.wait_all()
        deadline = time.monotonic() + BUSY_SECONDS
        while self.children():
            assert time.monotonic() < deadline, "a child trains no run"
            time.sleep(0.05)

    def pace(self, seconds: float) -> None:
        """How long each training step takes at least."""
        self.stages.order("step_begins", f"pause {seconds}")

    def last_words(self, name: str) -> str:
        log = self.logs / f"{name}.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""

    def who_has(self, pid: int) -> str:
        """The service that a process is."""
        (name,) = [
            name
            for name, service in self.services.items()
            if service.running and service.pid == pid
        ]
        return name

    def children(self) -> list[int]:
        """The training children that live now."""
        return self.monitor.living_children()

    def everybody(self) -> list[int]:
        """All processes of this stack, also those that lost their parents."""
        return processes.with_environment(f"CHAOS_STAGE={self.stages.folder}")

    def stop(self) -> None:
        """End it all; the monitor before, for it speaks to the others."""
        self.monitor.stop()
        self.stages.clear()
        self.client.close()
        for service in self.services.values():
            if service.running and service.process is not None:
                service.process.send_signal(signal.SIGCONT)
                service.process.terminate()
        for service in self.services.values():
            if service.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    service.process.wait(60)
                service.process.kill()
                service.process.wait()
        self.valkey.stop()
        self.history.close()


@contextlib.contextmanager
def running_stack(
    folder: Path,
    *,
    trainers: int = 1,
    inference: bool = False,
    data: Path | None = None,
    **changes: str,
) -> Iterator[Stack]:
    """A stack in ``folder``, with its data in ``data``; ``changes`` are GENPLAT_* variables. Of its
    processes none is left afterwards."""
    stack = make_stack(folder, trainers=trainers, inference=inference, data=data, **changes)
    try:
        stack.valkey.start()
        stack.start(*stack.services)
        stack.client.prepare()
        stack.pace(STEP_SECONDS)
        stack.monitor.start()
        yield stack
    finally:
        stack.stop()


def make_stack(
    folder: Path, *, trainers: int, inference: bool, data: Path | None, **changes: str
) -> Stack:
    """Everything but the processes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    valkey = Valkey(folder, persistent=True)
    stages = Stages(folder / "stages")
    storage = Storage(data or folder / "data")
    prepare_tiny_model(storage)
    history = History(folder / "history.jsonl")
    services = plan(storage.root, valkey, stages, trainers, inference, changes)
    client = Client(services[GATEWAY].port, ADMIN_KEY, history)
    stack = Stack(folder, valkey, stages, history, storage, services, client)
    stack.monitor = Monitor(
        stages=stages,
        database=stack.database,
        valkey=valkey,
        listening=lambda: is_open(services[GATEWAY].port),
    )
    return stack
