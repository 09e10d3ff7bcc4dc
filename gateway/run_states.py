"""A run's row as the state that events change, and the one way to write that state back."""

from typing import Any, Literal

from sqlalchemy import update
from sqlalchemy.engine import CursorResult
from sqlmodel import Session

from gateway.tables import Run, RunEventRow, now
from shared.run_events import Logged, RunState

_FIELDS = tuple(RunState.model_fields)


class StaleState(Exception):
    """Somebody else changed the run between reading and writing it."""


def state_of(run: Run) -> RunState:
    return RunState.model_validate({name: getattr(run, name) for name in _FIELDS})


def write_state(
    session: Session, run_id: str, before: RunState, after: RunState, **others: Any
) -> bool:
    """Write what changed, if the run is still where ``before`` says; False where it is not."""
    values = {
        name: value for name in _FIELDS if (value := getattr(after, name)) != getattr(before, name)
    } | others
    if not values:
        return True
    if after.status == "queued" and after.attempt != before.attempt:
        values["queued_at"] = now()
    statement = (
        update(Run)
        .where(
            Run.id == run_id,  # type: ignore[arg-type]
            Run.status == before.status,  # type: ignore[arg-type]
            Run.attempt == before.attempt,  # type: ignore[arg-type]
            Run.last_seq == before.last_seq,  # type: ignore[arg-type]
        )
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    result = session.execute(statement)
    assert isinstance(result, CursorResult)  # noqa: S101 (an UPDATE always gives one)
    return bool(result.rowcount == 1)


def cancelled(state: RunState) -> RunState:
    return state.model_copy(
        update={"status": "cancelled", "phase": None, "eta_seconds": None, "finished_at": now()}
    )


def paused(state: RunState) -> RunState:
    return state.model_copy(update={"status": "paused", "phase": None, "eta_seconds": None})


def note(
    session: Session,
    run_id: str,
    attempt: int,
    message: str,
    *,
    level: Literal["info", "warn"] = "warn",
) -> None:
    """A line of the gateway's own in the run's log, before the first event of ``attempt``."""
    session.merge(
        RunEventRow(
            run_id=run_id,
            attempt=attempt,
            seq=0,
            stream_id=f"attempt-{attempt}",
            type="log",
            time=now(),
            payload=Logged(level=level, message=message).model_dump(mode="json"),
        )
    )
