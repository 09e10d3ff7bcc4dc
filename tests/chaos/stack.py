"""A platform of real processes that a test may kill, freeze and starve: Valkey, gateway, trainers,
and the inference service where it is needed."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shared.storage import Storage
from tests.chaos import processes
from tests.chaos.client import Client
from tests.chaos.history import History
from tests.chaos.monitor import Monitor
from tests.chaos.stages import Stages
from tests.chaos.times import BUSY_SECONDS, settings
from tests.trainer_service.tiny import prepare_tiny_model
from tests.valkey import Valkey, free_port

GATEWAY, INFERENCE = "gateway", "inference"
MODULES = {GATEWAY: "gateway.app", INFERENCE: "inference_service.app"}
ROOT = Path(__file__).parents[2]
STEP_SECONDS = 0.1

# Things that must never be read in a log.
ADMIN_KEY = "gp-chaos-administrator-key-that-no-log-may-show"
INTERNAL_TOKEN = "chaos-internal-token-that-no-log-may-show"
HUB_TOKEN = "hf_chaosTokenThatNoLogMayShow"


def trainer(number: int) -> str:
    return f"trainer-{number}"


@dataclass
class Service:
    """One program: how it is started, and the process that runs it now."""

    name: str
    command: list[str]
    port: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    # Open files of the process that runs now, when nothing went on.
    usual_files: int | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} was not started"
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


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


def is_ready(port: int, path: str = "/readyz") -> bool:
    """Whether a service answers 200 there (without httpx, which loads certificates each time)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def is_open(port: int) -> bool:
    """Whether anybody takes connections there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


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
    (folder / "logs").mkdir()
    valkey = Valkey(folder, persistent=True)
    stages = Stages(folder / "stages")
    storage = Storage(data or folder / "data")
    prepare_tiny_model(storage)
    history = History(folder / "history.jsonl")
    services = _services(storage.root, valkey, stages, trainers, inference, changes)
    client = Client(services[GATEWAY].port, ADMIN_KEY, history)
    stack = Stack(folder, valkey, stages, history, storage, services, client)
    stack.monitor = Monitor(
        stages=stages,
        database=stack.database,
        valkey=valkey,
        listening=lambda: is_open(services[GATEWAY].port),
    )
    return stack


def _services(
    root: Path,
    valkey: Valkey,
    stages: Stages,
    trainers: int,
    inference: bool,
    changes: dict[str, str],
) -> dict[str, Service]:
    ports = {name: free_port() for name in (GATEWAY, INFERENCE)}
    common = {
        **os.environ,
        **settings(),
        "GENPLAT_DATA_DIR": str(root),
        "GENPLAT_REDIS_URL": valkey.url,
        "GENPLAT_INTERNAL_TOKEN": INTERNAL_TOKEN,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "TESTING": "1",
        "CHAOS_STAGE": str(stages.folder),
        "HF_TOKEN": HUB_TOKEN,
        "HF_HUB_OFFLINE": "1",
        # Models this small gain nothing from threads, and lose much where cores are shared.
        "OMP_NUM_THREADS": "1",
        **{f"GENPLAT_{name.upper()}": value for name, value in changes.items()},
    }
    gateway = common | {
        "GENPLAT_ADMIN_KEY": ADMIN_KEY,
        "GENPLAT_INFERENCE_URL": f"http://127.0.0.1:{ports[INFERENCE]}",
        "GENPLAT_PREPARE_BUNDLED_MODEL": "false",
    }
    made = [_service(GATEWAY, MODULES[GATEWAY], ports[GATEWAY], gateway)]
    for number in range(1, trainers + 1):
        own = common | {"GENPLAT_WORKER_NAME": f"device-{number}"}
        made.append(_service(trainer(number), "trainer_service.app", free_port(), own))
    if inference:
        own = common | {"GENPLAT_TORCH_THREADS": "1"}
        made.append(_service(INFERENCE, MODULES[INFERENCE], ports[INFERENCE], own))
    return {service.name: service for service in made}


def _service(name: str, module: str, port: int, environment: dict[str, str]) -> Service:
    command = [sys.executable, "-m", module, "--host", "127.0.0.1", "--port", str(port)]
    return Service(name, command, port, environment)
