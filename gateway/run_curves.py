"""What was measured while runs learned, as charts, tables and lists need it. Only reads."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Row, func, select
from sqlmodel import col

from gateway.database import Database
from gateway.run_views import owned_run
from gateway.tables import MetricRow

_MEASURED = (
    "step",
    "epoch",
    "loss",
    "eval_loss",
    "mean_token_accuracy",
    "eval_mean_token_accuracy",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "memory_bytes",
)


def measured_steps(
    *,
    database: Database,
    owner: str,
    run_id: str,
    since: int = 0,
    evaluated: bool = False,
) -> Sequence[Row[Any]]:
    """The columns of a run's steps from ``since`` on, in order; ``evaluated``: only of those that
    were validated. Rows and no objects, since a long run has many."""
    query = select(*(col(getattr(MetricRow, name)) for name in _MEASURED)).where(
        col(MetricRow.run_id) == run_id, col(MetricRow.step) >= since
    )
    if evaluated:
        query = query.where(col(MetricRow.eval_loss).is_not(None))
    with database.read() as session:
        owned_run(session, owner=owner, run_id=run_id)
        return session.execute(query.order_by(col(MetricRow.step))).all()


def best_eval_losses(*, database: Database, run_ids: Collection[str]) -> dict[str, float]:
    """The lowest validation loss of each of these runs that has one."""
    query = (
        select(col(MetricRow.run_id), func.min(MetricRow.eval_loss))
        .where(col(MetricRow.run_id).in_(run_ids), col(MetricRow.eval_loss).is_not(None))
        .group_by(col(MetricRow.run_id))
    )
    with database.read() as session:
        return {row[0]: row[1] for row in session.execute(query)}
