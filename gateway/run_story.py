"""A run's events as the lines that a person reads: what it logged, and what happened to it."""

from collections.abc import Iterator

from pydantic import TypeAdapter
from sqlmodel import col, select

from gateway.database import Database
from gateway.run_views import LogLine, owned_run
from gateway.tables import RunEventRow
from shared.run_events import (
    Advanced,
    Checkpointed,
    Finished,
    Logged,
    Measured,
    Payload,
    Started,
)

# The events that are looked at, from the newest back: so many steps, and so many of the others,
# which tell more.
LOOKED_AT = 2_000
# A line for about so many of a run's steps.
STEP_LINES = 20
_NOT_TOLD = ("sample", "heartbeat")
_STEP = "metrics"
_PAYLOAD: TypeAdapter[Payload] = TypeAdapter(Payload)


def run_story(*, database: Database, owner: str, run_id: str) -> list[LogLine]:
    """The lines in order; the steps of a long run begin somewhere in its middle."""
    query = select(RunEventRow).where(RunEventRow.run_id == run_id)
    query = query.order_by(col(RunEventRow.attempt).desc(), col(RunEventRow.seq).desc())
    steps = query.where(RunEventRow.type == _STEP).limit(LOOKED_AT)
    others = query.where(col(RunEventRow.type).not_in((_STEP, *_NOT_TOLD))).limit(LOOKED_AT)
    with database.read() as session:
        owned_run(session, owner=owner, run_id=run_id)
        rows = [*session.exec(steps).all(), *session.exec(others).all()]
    rows.sort(key=lambda row: (row.attempt, row.seq))
    return [line for row in rows for line in lines_of(row)]


def lines_of(row: RunEventRow) -> Iterator[LogLine]:
    """What one event has to tell: a line, or nothing."""
    if row.type in _NOT_TOLD:
        return
    payload = _PAYLOAD.validate_python(row.payload)
    level, message = "info", ""
    match payload:
        case Logged():
            level, message = payload.level, payload.message
        case Started() if payload.device:
            message = f"Attempt {row.attempt} runs on {payload.device}."
        case Advanced():
            message = _advance(payload)
        case Measured():
            message = _measurement(payload)
        case Checkpointed():
            best = ", the best until now" if payload.best else ""
            message = f"Checkpoint saved at step {payload.step:,}{best}."
        case Finished():
            level, message = _end(payload)
    if message:
        yield LogLine(time=row.time, level=level, message=message, attempt=row.attempt)


def _advance(state: Advanced) -> str:
    if state.resumed_from_step:
        return f"Goes on from the checkpoint at step {state.resumed_from_step:,}."
    if state.train_examples is not None:
        kept = state.validation_examples or 0
        return f"{state.train_examples:,} rows to learn from, {kept:,} to validate with."
    phases = {
        "preparing": "Checking the data and the base model.",
        "loading_model": "Loading the base model.",
        "saving": "Saving the model.",
    }
    return phases.get(state.phase, "")


def _measurement(step: Measured) -> str:
    if step.eval_loss is not None:
        return f"Step {step.step:,}: validation loss {step.eval_loss:.4f}."
    stride = max(1, step.total_steps // STEP_LINES)
    if step.loss is None or (step.step % stride and step.step != 1):
        return ""
    speed = f", {step.tokens_per_second:,.0f} tokens/s" if step.tokens_per_second else ""
    return f"Step {step.step:,} of {step.total_steps:,}: loss {step.loss:.4f}{speed}."


def _end(end: Finished) -> tuple[str, str]:
    match end.status:
        case "succeeded":
            seconds = f" in {end.train_seconds:,.0f} s" if end.train_seconds else ""
            tokens = f", {end.trained_tokens:,} tokens" if end.trained_tokens else ""
            return "info", f"Succeeded{seconds}{tokens}.{_why_early(end)}"
        case "cancelled":
            return "warn", "Cancelled."
        case "paused":
            return "info", "Paused; what was learned is saved."
        case "preempted":
            return "warn", "Stopped from outside; it goes back to the queue."
    return "error", f"Failed: {end.message or end.code or 'nobody said why.'}"


def _why_early(end: Finished) -> str:
    why = {
        "early": " Stopped early: the validation loss did not get lower any more.",
        "user": " Stopped by its owner, before the last step.",
    }.get(end.stopped or "", "")
    best = f" Published are the weights of step {end.best_step:,}." if end.best_step else ""
    return why + best
