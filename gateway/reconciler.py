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
from gateway.checkpoint_files import forget_unused
from gateway.database import Database
from gateway.datasets.placing import remove_orphans
from gateway.deployments import DeploymentLoader
from gateway.queue_watch import look_at_queue
from gateway.run_controls import settle_pause
from gateway.run_queue import REDIS_ERRORS, REDIS_SECONDS, Wish, enqueue_run, tell_worker
from gateway.run_states import cancelled, note, paused, state_of, write_state
from gateway.services import Services
from gateway.tables import Run, now
from shared.errors import GenPlatError, TimedOut, Unavailable
from shared.run_events import MAX_FAILURES, RunState, requeue
from shared.storage import Storage

log = logging.getLogger(__name__)

# A job leaves the queue a moment before its last event reaches the database.
SETTLE_SECONDS = 0.5
STALE_SECONDS = 3600.0
TIDY_EVERY_SECONDS = 600.0
MAX_LOOKED_AT = 100

Step = Callable[[], Awaitable[None]]


async def run_reconciler(services: Services) -> None:
    """Sweep for ever; what is away now is looked at again in the next sweep."""
    loader = DeploymentLoader(services)
    reconciler = Reconciler(services)
    steps: dict[str, Step] = {
        "queue": lambda: look_at_queue(services),
        "runs": reconciler.settle_runs,
        "deployments": loader.settle,
        "preparations": lambda: preparation.settle(services=services),
        "left-overs": reconciler.tidy,
        "disk reserve": reconciler.keep_room,
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
        """Queue again what the queue lost, give up on workers that are lost, repeat wishes."""
        async with asyncio.timeout(REDIS_SECONDS):
            await self._services.redis.ping()
        live = await asyncio.to_thread(_live_runs, self._services.database)
        self._services.feed.forget_all_but({(run.id, run.attempt) for run in live})
        await self._enqueue_again([run for run in live if run.status == "queued"])
        for run in live:
            # Before another attempt may begin, whose wishes these are not.
            await self._repeat_wish(run)
        for run in live:
            if run.status == "running" or await self._was_taken(run):
                await self._give_up_if_lost(run)
        await self._take_back_those_that_rest()

    async def _repeat_wish(self, run: Run) -> None:
        """Until it took effect: a Redis that was emptied forgot it."""
        if run.status == "queued":
            if run.pause_requested_at is not None:
                await settle_pause(services=self._services, run_id=run.id, attempt=run.attempt)
        elif (wish := _wish_of(run)) is not None:
            await tell_worker(
                services=self._services, run_id=run.id, attempt=run.attempt, wish=wish
            )

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
            await tell_worker(
                services=self._services, run_id=run.id, attempt=run.attempt, wish="cancel"
            )
            await enqueue_run(services=self._services, run_id=run.id)

    async def _take_back_those_that_rest(self) -> None:
        """A run can be cancelled or paused while Redis is away: its job must not be worked on
        later."""
        for run in await asyncio.to_thread(_last_at_rest, self._services.database):
            if await self._holds(run):
                wish: Wish = "pause" if run.status == "paused" else "cancel"
                await tell_worker(
                    services=self._services, run_id=run.id, attempt=run.attempt, wish=wish
                )

    async def tidy(self) -> None:
        """Remove what half-done writes left behind, now and then."""
        if self._tidied is None or time.monotonic() - self._tidied > TIDY_EVERY_SECONDS:
            self._tidied = time.monotonic()
            await asyncio.to_thread(remove_stale, self._services.storage)
            await asyncio.to_thread(remove_orphans, self._services.database, self._services.storage)
            await self._tidy_checkpoints()

    async def keep_room(self) -> None:
        """Room for the database, again where it was given back and there is plenty now."""
        if (reserve := self._services.database.reserve) is not None:
            await asyncio.to_thread(reserve.take)

    async def _tidy_checkpoints(self) -> None:
        """Remove copies of checkpoints that nobody uses; none while nobody says what is loaded."""
        try:
            held = await self._services.inference.models()
        except (Unavailable, TimedOut):
            return
        await asyncio.to_thread(
            forget_unused,
            self._services.database,
            self._services.storage,
            loaded={(model.ref.run_id, model.ref.checkpoint) for model in held},
        )


def _live_runs(database: Database) -> list[Run]:
    with database.read() as session:
        query = select(Run).where(col(Run.status).in_(("queued", "running")))
        return list(session.exec(query.order_by(col(Run.queue_rank))).all())


def _last_at_rest(database: Database) -> list[Run]:
    latest = (
        ("cancelled", col(Run.finished_at).desc()),
        ("paused", col(Run.pause_requested_at).desc()),
    )
    with database.read() as session:
        return [
            run
            for status, order in latest
            for run in session.exec(
                select(Run).where(Run.status == status).order_by(order).limit(MAX_LOOKED_AT)
            ).all()
        ]


def _wish_of(run: Run) -> Wish | None:
    if run.cancel_requested_at is not None:
        return "cancel"
    if run.pause_requested_at is not None:
        return "pause"
    return "stop" if run.stop_requested_at is not None else None


def lose_worker(*, database: Database, seen: Run) -> bool:
    """Send a run whose worker is gone back to the queue, or end it: after too many losses, or
    where a cancel is wanted. One that was to be paused is paused. False where the run has moved
    since it was ``seen``."""
    with database.write() as session:
        run = session.get(Run, seen.id, with_for_update=True)
        if run is None:
            return False
        before = state_of(run)
        if before != state_of(seen):
            return False
        after = _without_worker(before, _wish_of(run))
        if not write_state(session, run.id, before, after):
            return False
        _tell(session, run.id, before, after)
    return True


def _without_worker(state: RunState, wish: Wish | None) -> RunState:
    if wish == "cancel":
        return cancelled(state)
    if wish == "pause":
        return paused(state)
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
    elif after.status == "paused":
        sentence += " The run is paused."
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
    for pattern in ("*/*.tmp", "runs/*/*.tmp", "runs/*/checkpoints/*.tmp", "runs/*/deployed/*.tmp"):
        yield from storage.root.glob(pattern)


def _newest(path: Path) -> float:
    inside = path.rglob("*") if path.is_dir() else ()
    return max(float(entry.lstat().st_mtime) for entry in (path, *inside))
