"""Runs as a list of them shows each: with the names of its data and its best validation. Only
reads."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlmodel import col

from gateway import run_curves, run_views
from gateway.database import Database
from gateway.paging import Page
from gateway.run_views import RunView
from gateway.tables import Dataset, Run


@dataclass(frozen=True)
class ListedRun:
    run: RunView
    data: str
    best_eval_loss: float | None


def listed_runs(
    *, database: Database, owner: str, status: str | None = None, after: str | None = None
) -> Page[ListedRun]:
    page = run_views.list_runs(database=database, owner=owner, status=status, after=after)
    names = dataset_names(
        database=database, ids={part for run in page.data for part in data_ids(run)}
    )
    best = run_curves.best_eval_losses(database=database, run_ids=[run.id for run in page.data])
    listed = [
        ListedRun(run, ", ".join(names[part] for part in data_ids(run)), best.get(run.id))
        for run in page.data
    ]
    return Page(listed, page.has_more)


def run_counts(*, database: Database, owner: str) -> dict[str, int]:
    """How many of the owner's runs are in each state that any of them is in."""
    query = (
        select(col(Run.status), func.count())
        .where(col(Run.owner) == owner)
        .group_by(col(Run.status))
    )
    with database.read() as session:
        return {row[0]: row[1] for row in session.execute(query)}


def data_ids(run: RunView) -> list[str]:
    """The datasets that a run learns from."""
    return [part["id"] for part in run.spec.get("datasets") or [{"id": run.dataset_id}]]


def dataset_names(*, database: Database, ids: Collection[str]) -> dict[str, str]:
    """Names with versions; a dataset that was deleted keeps its own."""
    query = select(col(Dataset.id), col(Dataset.name), col(Dataset.version))
    with database.read() as session:
        rows = session.execute(query.where(col(Dataset.id).in_(ids))).all()
    return dict.fromkeys(ids, "–") | {row[0]: f"{row[1]} v{row[2]}" for row in rows}
