"""The training child that waits for its run: taken, replaced, and gone with its worker."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.run_events import Started
from shared.storage import Storage, manifest_problem
from tests.trainer_service.runs import (
    is_gone,
    make_command,
    payloads,
    quick_settings,
    stream_events,
    wait_for,
    wait_until,
)
from tests.trainer_service.workers import ENDLESS, ask_cancel, child_pid, ends, enqueue, steps
from tests.valkey import Valkey
from trainer_service.child_process import child_environment
from trainer_service.spare import Spare
from trainer_service.worker import TrainerWorker


@contextlib.asynccontextmanager
async def worker_with_spare(storage: Storage, valkey: Valkey) -> AsyncIterator[TrainerWorker]:
    settings = quick_settings(storage, valkey).model_copy(update={"keep_child_ready": True})
    worker = TrainerWorker(settings)
    task = asyncio.create_task(worker.run())
    try:
        await wait_until(lambda: spare_pid(worker) is not None)
        yield worker
    finally:
        await worker.stop()
        await asyncio.wait_for(task, 20)
        await worker.close()


def spare_pid(worker: TrainerWorker) -> int | None:
    process = worker.spare._process
    return None if process is None or process.returncode is not None else process.pid


def test_each_run_takes_the_child_that_waits_and_leaves_another(
    storage: Storage, valkey: Valkey
) -> None:
    async def scenario() -> None:
        async with worker_with_spare(storage, valkey) as worker:
            waiting = spare_pid(worker)
            await enqueue(valkey, make_command(storage, **ENDLESS))
            await wait_until(lambda: steps(valkey) > 2)
            assert child_pid(worker) == waiting
            # Memory and cores are the run's alone.
            assert spare_pid(worker) is None
            ask_cancel(valkey)
            await wait_until(lambda: spare_pid(worker) is not None)
            assert waiting is not None and is_gone(waiting)
            await enqueue(valkey, make_command(storage, run_id="run_b", eval_steps=6))
            await wait_until(lambda: len(ends(valkey)) == 2)

    asyncio.run(scenario())
    assert [end.status for end in ends(valkey)] == ["cancelled", "succeeded"]
    assert manifest_problem(storage.run_result("run_b")) is None
    devices = [
        p.device for p in payloads(stream_events(valkey), "started") if isinstance(p, Started)
    ]
    assert len([device for device in devices if device]) == 2


def test_a_child_that_died_while_it_waited_is_not_missed(storage: Storage, valkey: Valkey) -> None:
    async def scenario() -> None:
        async with worker_with_spare(storage, valkey) as worker:
            pid = spare_pid(worker)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await wait_until(lambda: spare_pid(worker) is None)
            await enqueue(valkey, make_command(storage, max_steps=2))
            await wait_until(lambda: bool(ends(valkey)))

    asyncio.run(scenario())
    assert [end.status for end in ends(valkey)] == ["succeeded"]


def test_a_stopped_worker_leaves_no_child_behind(storage: Storage, valkey: Valkey) -> None:
    seen: list[int | None] = []

    async def scenario() -> None:
        async with worker_with_spare(storage, valkey) as worker:
            seen.append(spare_pid(worker))
            spare = worker.spare
        await spare.prepare()
        assert spare._process is None

    asyncio.run(scenario())
    assert seen[0] is not None and is_gone(seen[0])


WORKER = """
import asyncio, sys
from trainer_service.spare import Spare
async def main():
    spare = Spare()
    await spare.prepare()
    print(spare._process.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_dies_with_its_worker_however_that_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdout=subprocess.PIPE,
        env=child_environment(os.environ),
    ) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"GENPLAT_" not in environment
        worker.kill()
    wait_for(lambda: is_gone(pid), seconds=30)


def test_one_that_cannot_be_started_keeps_nobody_from_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def scenario() -> None:
        spare = Spare()
        monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
        await spare.prepare()
        assert spare.take(tmp_path / "command.json") is None
        unwanted = Spare(wanted=False)
        await unwanted.prepare()
        assert unwanted.take(tmp_path / "command.json") is None

    asyncio.run(scenario())
