"""Rows of a request log as an experiment's traffic would leave them."""

import itertools
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from gateway.database import Database
from gateway.orchestrator.experiments.spec import ExperimentSpec
from gateway.orchestrator.experiments.store import start_experiment
from gateway.tables import Deployment, Experiment, LoggedRequest, Route, now
from shared.model_library import BUNDLED_MODEL

OWNER = "admin"
ROUTE = "best"
# When thumbs begin: later by as much with each call, however slowly rows are made here.
_BEGAN, _calls = now(), itertools.count()


def row(label: str, **changes: Any) -> LoggedRequest:
    values = {
        "owner": OWNER,
        "model": ROUTE,
        "route": ROUTE,
        "drawn": label,
        "served_by": label,
        "seconds": 1.0,
        "created_at": now(),
    }
    return LoggedRequest(**(values | changes))


def thumbs(
    label: str, *, good: float, count: int, seed: int = 1, every: float = 1, **changes: Any
) -> list[LoggedRequest]:
    """Answers of which this share got a thumb up, and the others one down; ``every`` so many
    seconds, so that those of two arms come in turns."""
    chance = random.Random(seed)
    began = _BEGAN + next(_calls) * timedelta(milliseconds=1)
    return [
        row(
            label,
            feedback=1 if chance.random() < good else -1,
            feedback_at=began + timedelta(seconds=number * every),
            unit=f"{label} {seed} {number}",
            **changes,
        )
        for number in range(count)
    ]


def store(database: Database, *rows: Sequence[LoggedRequest]) -> None:
    with database.write() as session:
        for some in rows:
            session.add_all(some)


def make_route(database: Database, labels: Sequence[str] = ("old", "new"), **changes: Any) -> None:
    with database.write() as session:
        for label in labels:
            session.add(
                Deployment(name=label, owner=OWNER, model=BUNDLED_MODEL, base_model=BUNDLED_MODEL)
            )
        places = {"targets": [{"deployment": labels[0], "weight": 100.0}]}
        session.add(Route(name=ROUTE, owner=OWNER, **(places | changes)))


def started(database: Database, **changes: Any) -> Experiment:
    spec = ExperimentSpec.model_validate({"control": "old", "treatment": "new"} | changes)
    return start_experiment(database=database, owner=OWNER, name=ROUTE, spec=spec)


def read_route(database: Database) -> Route:
    with database.read() as session:
        return session.get_one(Route, ROUTE)


def weights(database: Database) -> dict[str, float]:
    return {target["deployment"]: target["weight"] for target in read_route(database).targets}


def back_dated(database: Database, experiment_id: str, *, days: float) -> datetime:
    """As if the experiment had begun so long ago."""
    began = now() - timedelta(days=days)
    with database.write() as session:
        experiment = session.get_one(Experiment, experiment_id)
        experiment.created_at = began
        session.add(experiment)
    return began
