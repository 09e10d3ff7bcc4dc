"""Pieces of a gateway for tests that look below its HTTP surface; no fixture, no test."""

import asyncio
import functools
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.app import make_services
from gateway.database import Database
from gateway.migrations import migrate
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.tables import Dataset, Run
from shared import event_stream
from shared.model_library import BUNDLED_MODEL
from shared.run_events import Finished, Payload, RunEvent
from shared.runs import FineTuneSpec
from shared.storage import MANIFEST, Storage, atomic_directory, sha256_of

OWNER = "admin"
DATASET = "ds_test"
# For waits that end much earlier where all is well: on a busy machine little happens in a second.
LONG = 30.0


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a coroutine as a test, in an event loop of its own."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


@asynccontextmanager
async def gateway_services(settings: GatewaySettings) -> AsyncIterator[Services]:
    """The gateway's collaborators over a migrated database, without tasks or HTTP."""
    services = make_services(settings)
    try:
        await asyncio.to_thread(migrate, services.database)
        add_dataset(services.database)
        yield services
    finally:
        await services.inference.close()
        await services.redis.aclose(close_connection_pool=True)
        await asyncio.to_thread(services.database.close)


@asynccontextmanager
async def background(*tasks: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Tasks that run as long as the block, and whose trouble is the test's."""
    running = [asyncio.create_task(task) for task in tasks]
    try:
        yield
        for task in running:
            if task.done():
                task.result()
    finally:
        for task in running:
            task.cancel()
        for task in running:
            with suppress(asyncio.CancelledError):
                await task


def add_dataset(database: Database, *, owner: str = OWNER, dataset_id: str = DATASET) -> None:
    with database.write() as session:
        session.add(
            Dataset(
                id=dataset_id,
                owner=owner,
                name=dataset_id,
                filename="a.csv",
                file_type="csv",
                format="text/target",
                rows=2,
                bytes=10,
                sha256="ab",
                records_sha256="cd",
            )
        )


def spec(**changes: Any) -> FineTuneSpec:
    return FineTuneSpec.model_validate(
        {"base_model": BUNDLED_MODEL, "dataset_id": DATASET} | changes
    )


def read_run(database: Database, run_id: str) -> Run:
    with database.read() as session:
        return session.get_one(Run, run_id)


def event(run_id: str, payload: Payload, *, seq: int, attempt: int = 1) -> RunEvent:
    return RunEvent(
        run_id=run_id, attempt=attempt, seq=seq, time=datetime.now(UTC), payload=payload
    )


async def publish(services: Services, *events: RunEvent) -> list[str]:
    return [await event_stream.publish(services.redis, one) for one in events]


async def until(condition: Callable[[], Any], *, seconds: float = LONG) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def success(storage: Storage, run_id: str) -> Finished:
    """The result folder of a run, and the event that tells of it."""
    with atomic_directory(storage.run_result(run_id)) as folder:
        (folder / "adapter_model.safetensors").write_bytes(hashlib.sha256(b"x").digest())
    return Finished(
        status="succeeded",
        manifest_sha256=sha256_of(storage.run_result(run_id) / MANIFEST),
        trained_tokens=1234,
        train_seconds=5.5,
    )


def fake_prepared(storage: Storage, model_id: str) -> Path:
    """A base model's folder that looks prepared."""
    folder = storage.base_model(model_id)
    with atomic_directory(folder) as temporary:
        (temporary / "config.json").write_text("{}")
    return folder


def until_true(condition: Callable[[], Any], *, seconds: float = LONG) -> None:
    """The same outside of an event loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
