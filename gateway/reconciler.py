"""Brings the world in line with the database, every few seconds: queue, lost workers, cancels,
deployments, preparations, left-overs. Knows no HTTP."""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from gateway import preparation
from gateway.cancellation import raise_if_cancelled
from gateway.database import Database
from gateway.deployments import DeploymentLoader
from gateway.run_states import cancelled, note, state_of, write_state
from gateway.runs import REDIS_ERRORS, REDIS_SECONDS, enqueue_run, tell_worker_to_stop
from gateway.services import Services
from gateway.tables import Run, now
from shared.errors import GenPlatError
from shared.run_events import MAX_FAILURES, RunState, requeue
from shared.storage import Storage

log = logging.getLogger(__name__)

# A job leaves the queue a moment before its last event reaches the database.
SETTLE_SECONDS = 0.5
STALE_SECONDS = 3600.0
TIDY_EVERY_SECONDS = 600.0
MAX_CANCELLED_LOOKED_AT = 100

Step = Callable[[], Awaitable[None]]


async def run_reconciler(services: Services) -> None:
    """Sweep for ever; what is away now is looked at again in the next sweep."""
    loader = DeploymentLoader(services)
    reconciler = Reconciler(services)
    steps: dict[str, Step] = {
        "runs": reconciler.settle_runs,
        "deployments": loader.settle,
        "preparations": lambda: preparation.settle(services=services),
        "left-overs": reconciler.tidy,
    }
    troubled: set[str] = set()
    try:
        while True:
            services.feed.sweep_wanted.clear()
            for name, step in steps.items():
                raise_if_cancelled()
                await _try(name, step, troubled)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(services.settings.reconcile_seconds):
                    await services.feed.sweep_wanted.wait()
    finally:
        await loader.close()


async def _try(name: str, step: Step, troubled: set[str]) -> None:
    """One step; its trouble keeps no other from being taken, and is told once."""
    try:
        await step()
    except (*REDIS_ERRORS, SQLAlchemyError, GenPlatError) as error:
        if name not in troubled:
            log.warning("The sweep of %s waits: %s", name, str(error) or type(error).__name__)
        troubled.add(name)
    else:
        troubled.discard(name)


class Reconciler:
    """The sweep over runs and left-over files."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tidied: float | None = None

    async def settle_runs(self) -> None:
        """Queue again what the queue lost, give up on workers that are lost, repeat cancels."""
        async with asyncio.timeout(REDIS_SECONDS):
            await self._services.redis.ping()
        live = await asyncio.to_thread(_live_runs, self._services.database)
        self._services.feed.forget_all_but({(run.id, run.attempt) for run in live})
        await self._enqueue_again([run for run in live if run.status == "queued"])
        for run in live:
            if run.status == "running" or await self._was_taken(run):
                await self._give_up_if_lost(run)
        for run in live:
            if run.status == "running" and run.cancel_requested_at is not None:
                await tell_worker_to_stop(
                    services=self._services, run_id=run.id, attempt=run.attempt
                )
        await self._take_back_cancelled()

    async def _enqueue_again(self, queued: list[Run]) -> None:
        missing = [run for run in queued if not await self._holds(run)]
        if missing:
            await asyncio.sleep(SETTLE_SECONDS)
        for run in missing:
            await enqueue_run(services=self._services, run_id=run.id)

    async def _holds(self, run: Run) -> bool:
        async with asyncio.timeout(REDIS_SECONDS):
            return await self._services.queue.holds(f"{run.id}:{run.attempt}")

    async def _was_taken(self, run: Run) -> bool:
        """A worker that was killed between taking a job and saying so leaves the run queued."""
        async with asyncio.timeout(REDIS_SECONDS):
            return await self._services.queue.taken(f"{run.id}:{run.attempt}")

    async def _give_up_if_lost(self, run: Run) -> None:
        silence = self._services.feed.silence(run.id, run.attempt)
        if silence is None or silence <= self._services.settings.run_lost_seconds:
            return
        changed = await asyncio.to_thread(lose_worker, database=self._services.database, seen=run)
        if changed:
            log.warning("Run %s: nothing was heard of its worker for %.0f s.", run.id, silence)
            self._services.feed.notify(run.id)
            # It may only be frozen, and just about to start a child of that attempt.
            await tell_worker_to_stop(services=self._services, run_id=run.id, attempt=run.attempt)
            await enqueue_run(services=self._services, run_id=run.id)

    async def _take_back_cancelled(self) -> None:
        """A run can be cancelled while Redis is away: its job must not be worked on later."""
        for run in await asyncio.to_thread(_last_cancelled, self._services.database):
            if await self._holds(run):
                await tell_worker_to_stop(
                    services=self._services, run_id=run.id, attempt=run.attempt
                )

    async def tidy(self) -> None:
        """Remove what half-done writes left behind, now and then."""
        if self._tidied is None or time.monotonic() - self._tidied > TIDY_EVERY_SECONDS:
            self._tidied = time.monotonic()
            await asyncio.to_thread(remove_stale, self._services.storage)


def _live_runs(database: Database) -> list[Run]:
    with database.read() as session:
        query = select(Run).where(col(Run.status).in_(("queued", "running")))
        return list(session.exec(query.order_by(col(Run.queued_at))).all())


def _last_cancelled(database: Database) -> list[Run]:
    with database.read() as session:
        query = select(Run).where(Run.status == "cancelled")
        query = query.order_by(col(Run.finished_at).desc()).limit(MAX_CANCELLED_LOOKED_AT)
        return list(session.exec(query).all())


def lose_worker(*, database: Database, seen: Run) -> bool:
    """Send a run whose worker is gone back to the queue, or end it: after too many losses, or
    where a cancel is wanted. False where the run has moved since it was ``seen``."""
    with database.write() as session:
        run = session.get(Run, seen.id, with_for_update=True)
        if run is None:
            return False
        before = state_of(run)
        if before != state_of(seen):
            return False
        after = _without_worker(before, cancel_wanted=run.cancel_requested_at is not None)
        if not write_state(session, run.id, before, after):
            return False
        _tell(session, run.id, before, after)
    return True


def _without_worker(state: RunState, *, cancel_wanted: bool) -> RunState:
    if cancel_wanted:
        return cancelled(state)
    failures = state.failures + 1
    if failures < MAX_FAILURES:
        return state.model_copy(update=requeue(state) | {"failures": failures})
    return state.model_copy(
        update={
            "status": "failed",
            "phase": None,
            "eta_seconds": None,
            "failures": failures,
            "finished_at": now(),
            "error_code": "worker_lost",
            "error_message": (
                f"The worker was lost {failures} times. Look at the trainer's log and its memory, "
                "then start the run again."
            ),
        }
    )


def _tell(session: Session, run_id: str, before: RunState, after: RunState) -> None:
    sentence = f"The worker of attempt {before.attempt} was lost."
    if after.status == "queued":
        sentence += f" The run waits for attempt {after.attempt}."
    note(session, run_id, before.attempt + 1, sentence)


def remove_stale(storage: Storage, *, older_than: float = STALE_SECONDS) -> None:
    """Remove temporary files and folders in which nothing was written for long."""
    limit = time.time() - older_than
    for path in _temporary(storage):
        with contextlib.suppress(OSError):
            if _newest(path) < limit:
                log.info("Removing the left-over %s.", path.name)
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _temporary(storage: Storage) -> Iterator[Path]:
    yield from storage.temporary().iterdir()
    for pattern in ("*/*.tmp", "runs/*/*.tmp", "runs/*/checkpoints/*.tmp"):
        yield from storage.root.glob(pattern)


def _newest(path: Path) -> float:
    inside = path.rglob("*") if path.is_dir() else ()
    return max(float(entry.lstat().st_mtime) for entry in (path, *inside))
