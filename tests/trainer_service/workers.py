"""A worker in this process, and what its runs said; no fixture, no test."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from arq.connections import ArqRedis

from shared.event_stream import cancel_key
from shared.job_queue import (
    PREPARE_BASE_MODEL,
    TRAIN_RUN,
    ArqQueue,
    connect,
)
from shared.run_events import Finished, RunEvent, RunState, apply_event
from shared.runs import RunCommand
from shared.storage import Storage
from tests.trainer_service.runs import (
    payloads,
    quick_settings,
    stream_events,
)
from tests.valkey import Valkey
from trainer_service.worker import TrainerWorker

ENDLESS: dict[str, Any] = {"max_steps": 100_000, "save_steps": 100_000}


@contextlib.asynccontextmanager
async def running_worker(storage: Storage, valkey: Valkey) -> AsyncIterator[TrainerWorker]:
    worker = TrainerWorker(quick_settings(storage, valkey))
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        await worker.stop()
        await asyncio.wait_for(task, 20)
        await worker.close()


@contextlib.asynccontextmanager
async def connected(valkey: Valkey) -> AsyncIterator[ArqRedis]:
    pool = await connect(valkey.url)
    try:
        yield pool
    finally:
        await pool.aclose(close_connection_pool=True)


async def enqueue(valkey: Valkey, command: RunCommand) -> None:
    async with connected(valkey) as pool:
        queue = ArqQueue(pool)
        assert await queue.enqueue(TRAIN_RUN, command.job_id, command.model_dump(mode="json"))


async def enqueue_preparation(valkey: Valkey, folder: Path, job_id: str = "prepare:mine:1") -> None:
    async with connected(valkey) as pool:
        payload = {"model_id": "me/mine", "folder": str(folder)}
        assert await ArqQueue(pool).enqueue(PREPARE_BASE_MODEL, job_id, payload)


def ask_cancel(valkey: Valkey) -> None:
    with contextlib.closing(valkey.client()) as client:
        client.set(cancel_key("run_a"), "1")


def ends(valkey: Valkey) -> list[Finished]:
    return [event.payload for event in stream_events(valkey) if isinstance(event.payload, Finished)]


def steps(valkey: Valkey) -> int:
    return len(payloads(stream_events(valkey), "metrics"))


def fold(events: list[RunEvent], attempt: int = 1) -> RunState:
    state = RunState(status="queued", attempt=attempt)
    for event in events:
        state = apply_event(state, event)
    return state


def assert_gapless(events: list[RunEvent]) -> None:
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def complete(events: list[RunEvent]) -> bool:
    """Whether no event is missing, in whatever order and however often they came."""
    known = sorted({event.seq for event in events})
    return bool(known) and known == list(range(1, known[-1] + 1))


def child_pid(worker: TrainerWorker) -> int:
    assert worker.supervisor is not None and worker.supervisor.process is not None
    return worker.supervisor.process.pid


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
