"""The trainer as a process: health, token, clean stop; and what its death leaves behind."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.job_queue import PREPARE_BASE_MODEL, TRAIN_RUN, ArqQueue, connect
from shared.model_library import is_prepared
from shared.run_events import Advanced, Finished
from shared.settings import WRONG_SETTINGS
from shared.storage import Storage
from tests.trainer_service.runs import (
    environment_of,
    is_gone,
    make_command,
    nothing_is_queued,
    payloads,
    quick_values,
    stream_events,
    wait_for,
)
from tests.trainer_service.tiny import save_tiny_model
from tests.valkey import Valkey, free_port

TOKEN = {"authorization": "Bearer secret-token"}


class Service:
    """One trainer process and its address."""

    def __init__(self, storage: Storage, valkey: Valkey) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainer_service.app", "--port", str(self.port)],
            env=environment_of(quick_values(storage, valkey)),
        )

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def child(self) -> int:
        """The process id of the training child."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        (pid,) = listed.split()
        return int(pid)


@contextlib.contextmanager
def running_service(storage: Storage, valkey: Valkey) -> Iterator[Service]:
    service = Service(storage, valkey)
    try:
        wait_for(service.is_ready)
        yield service
    finally:
        service.process.kill()
        service.process.wait()


def enqueue(valkey: Valkey, function: str, job_id: str, payload: dict[str, object]) -> None:
    async def send() -> None:
        pool = await connect(valkey.url)
        assert await ArqQueue(pool).enqueue(function, job_id, payload)
        await pool.aclose(close_connection_pool=True)

    asyncio.run(send())


def ends(valkey: Valkey) -> list[Finished]:
    return [e.payload for e in stream_events(valkey) if isinstance(e.payload, Finished)]


def test_health_is_open_and_the_rest_needs_the_token(storage: Storage, valkey: Valkey) -> None:
    with running_service(storage, valkey) as service, httpx.Client(base_url=service.url) as http:
        assert http.get("/livez").status_code == 200
        for path in ("/hardware", "/metrics"):
            for headers in ({}, {"authorization": "Bearer wrong"}):
                answer = http.get(path, headers=headers)
                assert answer.status_code == 401
                assert answer.json()["error"]["code"] == "invalid_api_key"
        found = http.get("/hardware", headers=TOKEN, timeout=60).json()
        assert found["kind"] in ("cpu", "cuda", "mps") and found["memory_bytes"] > 2**28
        assert found["precision"] in ("fp32", "bf16", "fp16")
        assert "genplat_trainer_listening 1.0" in http.get("/metrics", headers=TOKEN).text
        valkey.stop()
        wait_for(lambda: http.get("/readyz").status_code == 503)
        assert http.get("/livez").status_code == 200
        valkey.start()
        wait_for(service.is_ready)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(15) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="looks the child up in /proc")
def test_a_killed_worker_takes_its_child_along_and_the_next_attempt_resumes(
    storage: Storage, valkey: Valkey
) -> None:
    numbers: dict[str, Any] = {"max_steps": 300, "save_steps": 10}
    with running_service(storage, valkey) as service:
        command = make_command(storage, **numbers)
        enqueue(valkey, TRAIN_RUN, command.job_id, command.model_dump(mode="json"))
        wait_for(lambda: bool(payloads(stream_events(valkey), "checkpoint")))
        child = service.child()
        service.process.kill()
        service.process.wait()
        wait_for(lambda: is_gone(child), seconds=3)
    assert not ends(valkey)
    with running_service(storage, valkey):
        command = make_command(storage, attempt=2, **numbers)
        enqueue(valkey, TRAIN_RUN, command.job_id, command.model_dump(mode="json"))
        wait_for(lambda: bool(ends(valkey)))
        # Nothing of the first attempt stays behind: its job is taken once more, and ended.
        wait_for(lambda: nothing_is_queued(valkey))
    second = [event for event in stream_events(valkey) if event.attempt == 2]
    resumed = [e.payload.resumed_from_step for e in second if isinstance(e.payload, Advanced)]
    assert max(filter(None, resumed)) >= 10
    assert [end.status for end in ends(valkey)] == ["succeeded"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks the child up in /proc")
def test_sigterm_saves_a_checkpoint_and_leaves_with_zero(
    storage: Storage, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "opens-gated-models")
    with running_service(storage, valkey) as service:
        command = make_command(storage, max_steps=100_000, save_steps=100_000)
        enqueue(valkey, TRAIN_RUN, command.job_id, command.model_dump(mode="json"))
        wait_for(lambda: len(payloads(stream_events(valkey), "metrics")) > 2)
        child = service.child()
        environment = Path(f"/proc/{child}/environ").read_bytes()
        assert b"secret-token" not in environment and valkey.password.encode() not in environment
        assert b"opens-gated-models" not in environment
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(40) == 0
        assert is_gone(child)
    assert [end.status for end in ends(valkey)] == ["preempted"]
    assert len(os.listdir(storage.run_checkpoints("run_a"))) == 1


@pytest.mark.parametrize("module", ["trainer_service.app", "trainer_service.settings"])
def test_a_setting_that_cannot_be_read_is_one_line_and_no_traceback(module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", module],
        env=environment_of({"run_lost_seconds": "soon"}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == WRONG_SETTINGS
    (line,) = ended.stderr.splitlines()
    assert line.startswith("genplat: GENPLAT_RUN_LOST_SECONDS: Input should be a valid number")


def test_a_base_model_is_prepared_from_a_folder(
    storage: Storage, valkey: Valkey, tmp_path: Path
) -> None:
    source = tmp_path / "mine"
    source.mkdir()
    save_tiny_model(source)
    with running_service(storage, valkey):
        for number, folder in enumerate((tmp_path / "nowhere", source)):
            enqueue(
                valkey,
                PREPARE_BASE_MODEL,
                f"prepare:mine:{number}",
                {"model_id": "me/mine", "folder": str(folder)},
            )
        failure = storage.base_model("me/mine").with_suffix(".error.json")
        wait_for(failure.is_file)
        assert "does not exist" in failure.read_text()
        wait_for(lambda: is_prepared(storage, "me/mine"))
        wait_for(lambda: not failure.exists())
