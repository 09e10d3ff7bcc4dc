"""Takes one batch from wherever it stands to its end. Who calls holds its lease."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from gateway import completions
from gateway.batches import recording
from gateway.batches.answers import answer, not_run
from gateway.batches.checking import BatchRequest, Findings, check_input, requests
from gateway.batches.leases import Lease
from gateway.batches.pacing import ask_within, pool_of
from gateway.batches.recording import Recorder
from gateway.completion_requests import Request
from gateway.request_log.entries import Origin
from gateway.services import Services
from gateway.serving import plan_for
from gateway.tables import Batch, now
from shared import request_id
from shared.errors import GenPlatError, NotFound

log = logging.getLogger(__name__)

# What is said stands in the batch's own files.
_ORIGIN = Origin(kind="batch", keeps="metadata")

LOOK_SECONDS = 0.5
# What is being answered when a cancel comes may be answered to its end for so long.
STOP_GRACE_SECONDS = 30.0
# The batch is worked on again later.
_DATABASE_AWAY = (OperationalError, InterfaceError, NoConnectionFree)


async def work_on(services: Services, lease: Lease, slots: asyncio.Semaphore, width: int) -> None:
    """``slots`` are shared with the other batches of this gateway: so many requests of all of them
    are under way at once; of this one at most ``width``. `LeaseLost` where somebody else took
    it."""
    async with _renewed(lease):
        try:
            await _advance(services, lease, slots, width)
        except FileNotFoundError:
            await asyncio.to_thread(_fail_without_file, lease)


async def _advance(services: Services, lease: Lease, slots: asyncio.Semaphore, width: int) -> None:
    batch = await asyncio.to_thread(lease.read)
    if batch.status == "validating":
        batch = await _validate(services, lease, batch)
    if batch.status == "in_progress":
        await _answer_all(services, lease, batch, slots, width)
        batch = await asyncio.to_thread(_after_answering, lease)
    if batch.status == "finalizing":
        await asyncio.to_thread(recording.finish, lease, services.storage, "completed")
    elif batch.status == "cancelling":
        await _end_early(services, lease, batch, "cancelled")
    elif batch.status == "in_progress" and batch.expires_at <= now():
        await _end_early(services, lease, batch, "expired")


def _fail_without_file(lease: Lease) -> None:
    found = Findings()
    found.add("file_missing", "The file of requests is gone.", line=None, param="input_file_id")
    with lease.writing() as (session, batch):
        batch.errors = found.errors
        recording.end(session, batch, "failed")


@asynccontextmanager
async def _renewed(lease: Lease) -> AsyncIterator[None]:
    """Hold the lease as long as the block runs; the block ends where it is lost."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(lease.seconds / 4)
            # (What is written asks for the lease again: a database that is away does no harm.)
            with contextlib.suppress(SQLAlchemyError):
                await asyncio.to_thread(lease.renew)

    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(renew())
            yield
            task.cancel()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors


async def _validate(services: Services, lease: Lease, batch: Batch) -> Batch:
    path = services.storage.file(batch.input_file_id)
    found = await asyncio.to_thread(check_input, path, batch.endpoint)
    if not found.errors and found.model is not None:
        try:
            await plan_for(services=services, owner=batch.owner, model=found.model)
        except NotFound as error:
            line = found.model_line
            found.add("model_not_found", error.message, line=line, param="body.model")
    return await asyncio.to_thread(_settle_validation, lease, found)


def _settle_validation(lease: Lease, found: Findings) -> Batch:
    with lease.writing() as (session, batch):
        # (It may have been cancelled meanwhile.)
        if batch.status == "validating" and found.errors:
            batch.errors = found.errors
            recording.end(session, batch, "failed")
        elif batch.status == "validating":
            batch.model, batch.total = found.model, found.total
            batch.status, batch.in_progress_at = "in_progress", now()
    return batch


async def _answer_all(
    services: Services, lease: Lease, batch: Batch, slots: asyncio.Semaphore, width: int
) -> None:
    """Ask for what was not answered yet, until all is, a cancel comes or the time is over."""
    left = _left(services, batch, await asyncio.to_thread(recording.answered_lines, lease))
    recorder, stop, reading = Recorder(lease), asyncio.Event(), asyncio.Lock()
    pool = await asyncio.to_thread(pool_of, services.database, batch)

    async def following() -> BatchRequest | None:
        # (In a thread: a file may hold 200 MB, of which most was answered before.)
        async with reading:
            return await asyncio.to_thread(next, left, None)

    async def ask(request: Request) -> dict[str, Any]:
        # (Nobody holds a slot while a model that is away is waited for.)
        async with slots:
            if stop.is_set():
                raise _Stopped
            return await _complete(services, batch.owner, request)

    async def pause(seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()
            raise _Stopped

    async def complete(request: Request) -> dict[str, Any]:
        if stop.is_set():
            raise _Stopped
        return await ask_within(services.limits, pool, request, ask, pause)

    async def work() -> None:
        with contextlib.suppress(_Stopped):
            while not stop.is_set() and (request := await following()) is not None:
                await recorder.add(await answer(batch.endpoint, request, complete, pause))

    try:
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(work()) for _ in range(width)]
            watching = group.create_task(_stop_in_time(lease, stop, workers))
            await asyncio.wait(workers)
            watching.cancel()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors


async def _complete(services: Services, owner: str, request: Request) -> dict[str, Any]:
    """What nobody foresaw is told of the one request: it must not keep the others from theirs."""
    origin = replace(_ORIGIN, request_id=request_id.current())
    try:
        done = await completions.complete(
            services=services, owner=owner, request=request, origin=origin
        )
        return done.body
    except (GenPlatError, *_DATABASE_AWAY):
        raise
    except Exception as error:
        log.exception("A request of a batch failed.")
        raise GenPlatError("The service failed on this request; its log says why.") from error


class _Stopped(Exception):
    """A request that was not asked any more."""


async def _stop_in_time(
    lease: Lease, stop: asyncio.Event, workers: "list[asyncio.Task[None]]"
) -> None:
    """Where a cancel comes or the time is over: those under way have some time to end."""
    while not stop.is_set():
        await asyncio.sleep(LOOK_SECONDS)
        try:
            batch = await asyncio.to_thread(lease.read)
        except SQLAlchemyError:
            continue
        if batch.status != "in_progress" or batch.expires_at <= now():
            stop.set()
    await asyncio.sleep(STOP_GRACE_SECONDS)
    for worker in workers:
        worker.cancel()


def _left(services: Services, batch: Batch, answered: set[int]) -> Iterator[BatchRequest]:
    return requests(services.storage.file(batch.input_file_id), without=answered)


def _after_answering(lease: Lease) -> Batch:
    with lease.writing() as (_, batch):
        if batch.status == "in_progress" and batch.completed + batch.failed >= batch.total:
            batch.status, batch.finalizing_at = "finalizing", now()
    return batch


async def _end_early(services: Services, lease: Lease, batch: Batch, status: str) -> None:
    """End as cancelled or expired. What nobody was asked is told of in the error file."""
    await asyncio.to_thread(_note_not_run, services, lease, batch, f"batch_{status}")
    await asyncio.to_thread(recording.finish, lease, services.storage, status)


def _note_not_run(services: Services, lease: Lease, batch: Batch, code: str) -> None:
    if not batch.total:
        # It was never found to be right.
        return
    left = _left(services, batch, recording.answered_lines(lease))
    recording.record_many(lease, (not_run(request, code) for request in left))
