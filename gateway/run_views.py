"""Runs as their owners see them: state, place in the queue, metrics. Only reads."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, or_
from sqlmodel import Session, col, select

from gateway.database import Database
from gateway.model_names import checkpoint_model
from gateway.paging import DEFAULT_LIMIT, MAX_LIMIT, Page, paginate
from gateway.queue_watch import why_it_waits
from gateway.tables import CheckpointRow, Deployment, MetricRow, Run
from shared.errors import InvalidRequest, NotFound
from shared.runs import TERMINAL


@dataclass(frozen=True)
class LogLine:
    time: datetime
    level: str
    message: str
    attempt: int


class CheckpointView(BaseModel):
    """A step of a run whose weights were kept. Those that are ``available`` can be deployed."""

    model_config = ConfigDict(from_attributes=True)

    step: int
    created_at: datetime
    loss: float | None
    eval_loss: float | None
    mean_token_accuracy: float | None
    eval_mean_token_accuracy: float | None
    best: bool
    available: bool
    fine_tuned_model_checkpoint: str


class RunError(BaseModel):
    code: str
    message: str


class RunView(BaseModel):
    """A run as its owner sees it."""

    id: str
    status: str
    phase: str | None
    attempt: int
    queue_position: int | None
    step: int
    total_steps: int | None
    epoch: float | None
    loss: float | None
    eval_loss: float | None
    tokens_per_second: float | None
    eta_seconds: float | None
    memory_bytes: int | None
    best_step: int | None
    stopped: str | None
    error: RunError | None
    fine_tuned_model: str | None
    base_model: str
    dataset_id: str
    device: str | None
    spec: dict[str, Any]
    hyperparameters: dict[str, Any] | None
    train_examples: int | None
    validation_examples: int | None
    trained_tokens: int | None
    train_seconds: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    pause_requested_at: datetime | None
    stop_requested_at: datetime | None
    waiting_for: str | None

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


def view_of(session: Session, run: Run) -> RunView:
    values = run.model_dump(include=set(RunView.model_fields))
    values["error"] = (
        RunError(code=run.error_code, message=run.error_message or "") if run.error_code else None
    )
    position = queue_position(session, run)
    waiting_for = None if position is None else why_it_waits(session, position)
    return RunView(queue_position=position, waiting_for=waiting_for, **values)


def queue_position(session: Session, run: Run) -> int | None:
    """1 for the run that is next; None for one that does not wait."""
    if run.status != "queued":
        return None
    ahead = (
        select(func.count())
        .select_from(Run)
        .where(
            Run.status == "queued",
            or_(
                col(Run.queue_rank) < run.queue_rank,
                (col(Run.queue_rank) == run.queue_rank) & (col(Run.id) < run.id),
            ),
        )
    )
    return session.exec(ahead).one() + 1


def owned_run(session: Session, *, owner: str, run_id: str, for_update: bool = False) -> Run:
    run = session.get(Run, run_id, with_for_update=for_update)
    if run is None or run.owner != owner:
        raise NotFound(f"There is no run {run_id[:80]!r}.", param="run_id")
    return run


def list_runs(
    *,
    database: Database,
    owner: str,
    status: str | None = None,
    after: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[RunView]:
    """Newest first; of one ``status``, or of all."""
    query = select(Run).where(Run.owner == owner)
    with database.read() as session:
        page = paginate(
            session=session,
            query=query if status is None else query.where(Run.status == status),
            table=Run,
            key=Run.id,
            after=after,
            limit=limit,
        )
        return Page([view_of(session, run) for run in page.data], page.has_more)


def get_run(*, database: Database, owner: str, run_id: str) -> RunView:
    with database.read() as session:
        return view_of(session, owned_run(session, owner=owner, run_id=run_id))


def run_metrics(*, database: Database, owner: str, run_id: str) -> list[MetricRow]:
    """One row an optimizer step, in order."""
    with database.read() as session:
        owned_run(session, owner=owner, run_id=run_id)
        query = select(MetricRow).where(MetricRow.run_id == run_id)
        return list(session.exec(query.order_by(col(MetricRow.step))).all())


def list_checkpoints(
    *,
    database: Database,
    owner: str,
    run_id: str,
    after: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[CheckpointView]:
    """The run's checkpoints, newest first; ``after`` is the step behind which to go on."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit must lie between 1 and {MAX_LIMIT}.", param="limit")
    query = select(CheckpointRow).where(CheckpointRow.run_id == run_id)
    with database.read() as session:
        run = owned_run(session, owner=owner, run_id=run_id)
        if after is not None:
            query = query.where(col(CheckpointRow.step) < _known_step(session, run_id, after))
        rows = session.exec(query.order_by(col(CheckpointRow.step).desc()).limit(limit + 1)).all()
        deployed = select(Deployment.checkpoint).where(Deployment.run_id == run_id)
        served = set(session.exec(deployed).all())
    views = [
        CheckpointView(
            available=row.removed_at is None or row.step in served,
            fine_tuned_model_checkpoint=checkpoint_model(run, row.step),
            **row.model_dump(exclude={"run_id", "removed_at"}),
        )
        for row in rows[:limit]
    ]
    return Page(views, has_more=len(rows) > limit)


def _known_step(session: Session, run_id: str, after: str) -> int:
    step = int(after) if after.isascii() and after.isdecimal() and len(after) < 10 else -1
    if session.get(CheckpointRow, (run_id, step)) is None:
        raise InvalidRequest(
            f"after names no checkpoint of this run: {after[:80]!r}. It is a step.", param="after"
        )
    return step
