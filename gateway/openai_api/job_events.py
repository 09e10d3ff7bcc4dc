"""What happened to a run, as the events of an OpenAI job, newest first. Knows no HTTP.

Each event is made of what is stored of the run, and has its place: attempt, seq, and part for
what makes two events of one. So it has the same id at each look.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from sqlalchemy import tuple_
from sqlmodel import Session, col, select

from gateway import run_views
from gateway.database import Database
from gateway.openai_api import ids
from gateway.openai_api.jobs import run_behind, seconds
from gateway.paging import Page
from gateway.run_story import lines_of
from gateway.tables import Run, RunEventRow
from shared.run_events import Checkpointed, Finished, Measured, Payload, Started
from shared.runs import TERMINAL

DEFAULT_LIMIT, MAX_LIMIT = 20, 1000
Level = Literal["info", "warn", "error"]
_BATCH = 200
_PAYLOAD: TypeAdapter[Payload] = TypeAdapter(Payload)
_NOT_TOLD = ("sample", "heartbeat")
_NUMBER = re.compile(r"[0-9]{1,9}")
Place = tuple[int, int]
_CREATED: Place = (0, 0)
# Where the end of a run stands: behind all that was told of its last attempt, and of one more
# that was given up before it began.
_END_SEQ = 999_999_999
_STOPPED = {
    "early": "Training stopped early, as the validation loss did not get lower any more,",
    "user": "Training was stopped by its owner",
}
# Of a measurement: ours and OpenAI's names.
_MEASURED = {
    "loss": "train_loss",
    "mean_token_accuracy": "train_mean_token_accuracy",
    "eval_loss": "valid_loss",
    "eval_mean_token_accuracy": "valid_mean_token_accuracy",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "tokens_per_second": "tokens_per_second",
}


class JobEvent(BaseModel):
    """`fine_tuning.job.event`; ``created_at`` in Unix seconds."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Level
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


@dataclass(frozen=True)
class _Told:
    message: str
    level: Level = "info"
    data: dict[str, Any] | None = None


def list_events(
    *,
    database: Database,
    owner: str,
    job_id: str,
    after: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[JobEvent]:
    """The events behind ``after``, each older than the one before it."""
    with run_behind(job_id) as run_id, database.read() as session:
        run = run_views.owned_run(session, owner=owner, run_id=run_id)
        place = None if after is None else _place_of(run_id, after)
        events = _newest_first(session, run, place)
        # (A place holds three events at most, and ``after`` is one of them.)
        if after is not None and not any(event.id == after for event in islice(events, 3)):
            raise ids.unknown_cursor(after)
        found = list(islice(events, limit + 1))
    return Page(found[:limit], has_more=len(found) > limit)


def _place_of(run_id: str, event_id: str) -> Place:
    """Where an event stands; it may not exist."""
    attempt, _, rest = event_id.removeprefix(ids.event_id(run_id, "")).partition("-")
    seq = rest.partition("-")[0]
    if not (_NUMBER.fullmatch(attempt) and _NUMBER.fullmatch(seq)):
        raise ids.unknown_cursor(event_id)
    return int(attempt), int(seq)


def _newest_first(session: Session, run: Run, place: Place | None) -> Iterator[JobEvent]:
    """The events from ``place`` on, back to the first; read as they are asked for."""
    end = (run.attempt + 1, _END_SEQ)
    place = place or end
    if run.status in TERMINAL and place >= end:
        yield from _events(run, end, run.finished_at or run.created_at, _end(run))
    for row in _rows(session, run.id, place):
        yield from _events(run, (row.attempt, row.seq), row.time, _told(run, row))
    created = _Told(f"Created fine-tuning job: {ids.job_id(run.id)}")
    yield from _events(run, _CREATED, run.created_at, [created])


def _rows(session: Session, run_id: str, place: Place) -> Iterator[RunEventRow]:
    """The stored events from ``place`` back, in batches."""
    here = tuple_(col(RunEventRow.attempt), col(RunEventRow.seq))
    query = select(RunEventRow).where(
        RunEventRow.run_id == run_id, col(RunEventRow.type).not_in(_NOT_TOLD)
    )
    query = query.order_by(col(RunEventRow.attempt).desc(), col(RunEventRow.seq).desc())
    found = session.exec(query.where(here <= tuple_(*place)).limit(_BATCH)).all()
    while found:
        yield from found
        place = (found[-1].attempt, found[-1].seq)
        found = session.exec(query.where(here < tuple_(*place)).limit(_BATCH)).all()


def _events(run: Run, place: Place, time: datetime, told: list[_Told]) -> Iterator[JobEvent]:
    for part, one in reversed(list(enumerate(told))):
        yield JobEvent(
            id=ids.event_id(run.id, f"{place[0]}-{place[1]}-{part}"),
            created_at=seconds(time),
            level=one.level,
            message=one.message,
            type="metrics" if one.data else "message",
            data=one.data or {},
        )


def _told(run: Run, row: RunEventRow) -> list[_Told]:
    """What a stored event tells, oldest first."""
    payload = _PAYLOAD.validate_python(row.payload)
    match payload:
        case Started():
            again = f" again: attempt {row.attempt}" if row.attempt > 1 else ""
            return [_Told(f"Fine-tuning job started{again}")]
        case Measured():
            return [_measured(payload)]
        case Checkpointed():
            return [_Told(f"Checkpoint created at step {payload.step}")]
        case Finished(status="paused"):
            return [_Told("Fine-tuning job paused")]
        case Finished() if run.status in TERMINAL and row.attempt == run.attempt:
            return []  # This was the end, which is told by the run.
    return [_Told(line.message, _level(line.level)) for line in lines_of(row)]


def _level(level: str) -> Level:
    return "error" if level == "error" else "warn" if level == "warn" else "info"


def _measured(payload: Measured) -> _Told:
    values = {
        theirs: value
        for ours, theirs in _MEASURED.items()
        if (value := getattr(payload, ours)) is not None
    }
    losses = (("training loss", payload.loss), ("validation loss", payload.eval_loss))
    said = ", ".join(f"{name}={loss:.4f}" for name, loss in losses if loss is not None)
    return _Told(
        f"Step {payload.step}/{payload.total_steps}: {said}",
        data={"step": payload.step, "total_steps": payload.total_steps, **values},
    )


def _end(run: Run) -> list[_Told]:
    """How a run that is over ended, whether its worker said so or the gateway did."""
    match run.status:
        case "succeeded":
            why = _STOPPED.get(run.stopped or "")
            return [
                *([_Told(f"{why} at step {run.step}")] if why else ()),
                _Told(f"New fine-tuned model created: {run.fine_tuned_model}"),
                _Told("The job has successfully completed"),
            ]
        case "cancelled":
            return [_Told("Fine-tuning job cancelled", "warn")]
    return [_Told(f"Fine-tuning job failed: {run.error_message or run.error_code}", "error")]
