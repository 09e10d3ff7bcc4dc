"""How long an experiment would take, before it is begun: from the route's last days."""

from datetime import timedelta

from pydantic import BaseModel
from sqlmodel import col, select

from gateway.database import Database
from gateway.orchestrator.experiments.arms import Arms, columns, read_arms, readable_in_shadow
from gateway.orchestrator.experiments.decisions import needed_units
from gateway.orchestrator.experiments.migration_shapes import MigrationSpec
from gateway.orchestrator.experiments.sample_size import PAIRS, shape_of
from gateway.orchestrator.experiments.spec import ExperimentSpec, Terms
from gateway.orchestrator.routes import owned_route
from gateway.tables import LoggedRequest, now
from shared.route_labels import label_of

LAST = timedelta(days=7)
MOST_ROWS = 100_000


class Forecast(BaseModel):
    """``needed_units`` of both arms together; ``days`` at the route's pace of late, None where
    nothing of the kind was logged."""

    share: float
    needed_units: int | None
    units_a_day: float
    days: float | None


def forecast_experiment(
    *, database: Database, owner: str, name: str, spec: ExperimentSpec
) -> Forecast:
    labels = label_of(spec.control.model_dump()), label_of(spec.treatment.model_dump())
    terms = Terms.model_validate(spec.model_dump(include=set(Terms.model_fields)))
    return _forecast(database, owner, name, labels, terms, spec.share)


def forecast_migration(
    *, database: Database, owner: str, name: str, spec: MigrationSpec
) -> list[Forecast]:
    """One for each step but the last, which is the end."""
    labels = label_of(spec.source.model_dump()), label_of(spec.target.model_dump())
    found = []
    for share in spec.steps[:-1]:
        asked = spec.model_dump(include=set(Terms.model_fields))
        if share == 0:
            asked["outcome"] = readable_in_shadow(spec.outcome)
        terms = Terms.model_validate(asked)
        found.append(_forecast(database, owner, name, labels, terms, share))
    return found


def _forecast(
    database: Database, owner: str, name: str, labels: tuple[str, str], terms: Terms, share: float
) -> Forecast:
    control, treatment = labels
    since = now() - LAST
    with database.read() as session:
        owned_route(session, owner, name)
        rows = session.execute(
            select(*columns(LoggedRequest))
            .where(
                LoggedRequest.owner == owner,
                LoggedRequest.route == name,
                LoggedRequest.created_at >= since,
            )
            .order_by(col(LoggedRequest.created_at).desc())
            .limit(MOST_ROWS)
        ).all()
    arms = read_arms(rows, control=control, treatment=treatment, terms=terms)
    needed = needed_units(arms, terms, shape_of(share) if share else PAIRS)
    first = min((row.created_at for row in rows), default=now())
    days = max((now() - first) / timedelta(days=1), 1 / 24)
    # A pair of a shadow step is a reader's request and its shadow.
    pace = (1 if share else 2) * _units(arms) / days
    return Forecast(
        share=share,
        needed_units=needed,
        units_a_day=pace,
        days=needed / pace if needed is not None and pace > 0 else None,
    )


def _units(arms: Arms) -> int:
    return len(arms.control.outcomes) + len(arms.treatment.outcomes)
