"""What an owner can ask of a run: cancel, pause, resume, stop and keep. Knows no HTTP.

A wish is stored first. What waits follows it at once, what runs when its worker has; the reconciler
repeats it until then.
"""

import asyncio
from collections.abc import Callable

from sqlmodel import Session

from gateway.database import Database
from gateway.fair_queue import next_rank
from gateway.run_queue import enqueue_run, tell_worker
from gateway.run_states import cancelled, note, paused, state_of, write_state
from gateway.run_views import RunView, owned_run, view_of
from gateway.services import Services
from gateway.tables import Run, now
from shared.errors import Conflict
from shared.run_events import RunState, requeue
from shared.runs import TERMINAL

AT_THIS_MOMENT = "The run changed at this very moment; ask again."

Change = Callable[[Session, Run], None]


async def cancel_run(*, services: Services, owner: str, run_id: str) -> RunView:
    """Cancel at once what waits; ask the worker of what runs to stop."""
    view = await asyncio.to_thread(_change, services.database, owner, run_id, _cancel)
    services.feed.notify(run_id)
    await tell_worker(services=services, run_id=run_id, attempt=view.attempt, wish="cancel")
    return view


async def pause_run(*, services: Services, owner: str, run_id: str) -> RunView:
    """Free the device: a run that trains saves a checkpoint first, one that waits is paused at
    once."""
    view = await asyncio.to_thread(_change, services.database, owner, run_id, _ask_to_pause)
    if view.status != "paused":
        await settle_pause(services=services, run_id=run_id, attempt=view.attempt)
        view = await asyncio.to_thread(_view, services.database, owner, run_id)
    services.feed.notify(run_id)
    return view


async def resume_run(*, services: Services, owner: str, run_id: str) -> RunView:
    """Queue a paused run again; it goes on at the step where it was."""
    view = await asyncio.to_thread(_change, services.database, owner, run_id, _resume)
    services.feed.notify(run_id)
    await enqueue_run(services=services, run_id=run_id)
    return view


async def stop_run(*, services: Services, owner: str, run_id: str) -> RunView:
    """End a run and keep what it learned; one that is not in training is queued for that."""
    view = await asyncio.to_thread(_change, services.database, owner, run_id, _ask_to_stop)
    services.feed.notify(run_id)
    if view.status == "running":
        await tell_worker(services=services, run_id=run_id, attempt=view.attempt, wish="stop")
    else:
        await enqueue_run(services=services, run_id=run_id)
    return view


async def settle_pause(*, services: Services, run_id: str, attempt: int) -> None:
    """Tell a run's worker to pause it; pause it here where no worker has it."""
    taken = await tell_worker(services=services, run_id=run_id, attempt=attempt, wish="pause")
    if not taken:
        await asyncio.to_thread(_pause_waiting, services.database, run_id, attempt)


def _change(database: Database, owner: str, run_id: str, change: Change) -> RunView:
    with database.write() as session:
        # Locked: an event that is written between look and change would make it vain.
        run = owned_run(session, owner=owner, run_id=run_id, for_update=True)
        change(session, run)
        session.flush()
        session.refresh(run)
        return view_of(session, run)


def _view(database: Database, owner: str, run_id: str) -> RunView:
    with database.read() as session:
        return view_of(session, owned_run(session, owner=owner, run_id=run_id))


def _cancel(session: Session, run: Run) -> None:
    if run.status in ("succeeded", "failed"):
        raise Conflict(f"The run has {run.status} already; there is nothing to cancel.")
    if run.cancel_requested_at is None and run.status != "cancelled":
        before = state_of(run)
        after = before if run.status == "running" else cancelled(before)
        if not write_state(session, run.id, before, after, cancel_requested_at=now()):
            raise Conflict(AT_THIS_MOMENT, retry_after=1)


def _ask_to_pause(session: Session, run: Run) -> None:
    if run.status == "paused" or (run.pause_requested_at and run.status not in TERMINAL):
        return
    _refuse_ended(run, "pause")
    if run.stop_requested_at is not None:
        raise Conflict("The run is being stopped, with what it learned; it cannot be paused.")
    run.pause_requested_at, run.resumed_at = now(), None
    session.add(run)


def _pause_waiting(database: Database, run_id: str, attempt: int) -> None:
    with database.write() as session:
        run = session.get(Run, run_id, with_for_update=True)
        if run is None or (run.status, run.attempt) != ("queued", attempt):
            return
        if run.pause_requested_at is not None:
            before = state_of(run)
            write_state(session, run_id, before, paused(before))


def _resume(session: Session, run: Run) -> None:
    if run.status == "paused":
        _queue_again(session, run, resumed_at=now())
    elif run.status in TERMINAL:
        raise Conflict(
            f"The run has ended: it is {run.status}. Start another one, with continue_from where "
            "it shall go on from this one's weights."
        )
    elif run.pause_requested_at is not None:
        raise Conflict("The run is still being paused; resume it when it is.", retry_after=1)
    elif run.resumed_at is None:
        raise Conflict(f"The run is {run.status}; only a paused run can be resumed.")


def _ask_to_stop(session: Session, run: Run) -> None:
    if (run.status, run.stopped) == ("succeeded", "user"):
        return
    _refuse_ended(run, "stop")
    if run.stop_requested_at is not None:
        return
    if run.status != "paused" and run.pause_requested_at is not None:
        raise Conflict("The run is being paused; stop it when it is.", retry_after=1)
    if run.step == 0:
        raise Conflict("Nothing has been learned yet; cancel the run instead.")
    if run.status == "paused":
        _queue_again(session, run, stop_requested_at=now())
        return
    run.stop_requested_at = now()
    session.add(run)


def _refuse_ended(run: Run, verb: str) -> None:
    if run.status in TERMINAL:
        raise Conflict(f"The run has ended: it is {run.status}. There is nothing to {verb}.")
    if run.cancel_requested_at is not None:
        raise Conflict(f"The run is being cancelled; it is too late to {verb} it.")


def _queue_again(session: Session, run: Run, **wishes: object) -> None:
    before = state_of(run)
    after = RunState.model_validate(before.model_dump() | requeue(before))
    rank = next_rank(session, run.owner)
    if not write_state(
        session, run.id, before, after, pause_requested_at=None, queue_rank=rank, **wishes
    ):
        raise Conflict(AT_THIS_MOMENT, retry_after=1)
    why = "Resumed" if "resumed_at" in wishes else "To be stopped with what it learned"
    note(session, run.id, after.attempt, f"{why}: attempt {after.attempt} waits.", level="info")
