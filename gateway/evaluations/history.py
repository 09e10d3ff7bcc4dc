"""How a metric went over the evaluations of all versions of a dataset. Only reads."""

from gateway.database import Database
from gateway.evaluations.views import EvaluationView, list_evaluations
from gateway.tables import Dataset
from ui.evaluation_tables import IntervalChart, interval_chart

SHOWN = 12


def history_chart(
    *, database: Database, owner: str, evaluation: EvaluationView, metric: str | None = None
) -> IntervalChart | None:
    """The newest values of the evaluation's first metric (or of ``metric``), oldest first; None
    where there is but one evaluation."""
    if evaluation.results is None:
        return None
    described = next(
        (one for one in evaluation.results["metrics"] if one["name"] == metric),
        evaluation.results["metrics"][0],
    )
    with database.read() as session:
        dataset = session.get_one(Dataset, evaluation.dataset_id)
        name = dataset.name
    page = list_evaluations(database=database, owner=owner, dataset_name=name, limit=50)
    finished = [one for one in page.data if one.results is not None]
    if len(finished) < 2:
        return None
    values = [
        (f"{one.created_at:%d %b %H:%M} {candidate['name']}", found)
        for one in finished
        for candidate in (one.results or {})["candidates"]
        if (found := candidate["metrics"].get(described["name"])) is not None
    ]
    shown = values[:SHOWN][::-1]
    return interval_chart(described["title"], shown, described["unit"])
