"""A route's walk from one target to another: steps that hold, steps that do not, hands."""

from datetime import timedelta
from typing import Any

import pytest

from gateway.database import Database
from gateway.orchestrator.experiments import migration, watch
from gateway.orchestrator.experiments.migration_shapes import MigrationSpec, MigrationView
from gateway.orchestrator.experiments.store import stop_experiment
from gateway.orchestrator.routes import RouteRules, replace_route
from shared.errors import Conflict, InvalidData
from tests.gateway.orchestrator.experiments.traffic import (
    OWNER,
    ROUTE,
    make_route,
    read_route,
    row,
    store,
    thumbs,
    weights,
)

WHOSE: dict[str, Any] = {"owner": OWNER, "name": ROUTE}


def start(database: Database, **changes: Any) -> None:
    spec = MigrationSpec.model_validate(
        {"from": "old", "to": "new", "steps": [0, 0.5, 1], "margin": 0.2} | changes
    )
    migration.start_migration(database=database, spec=spec, **WHOSE)


def look(database: Database) -> MigrationView:
    watch.look_at_all(database, timedelta(0))
    return migration.get_migration(database=database, **WHOSE)


def shadowed(database: Database, count: int = 80, *, seed: str = "", **changes: Any) -> None:
    readers = [row("old", id=f"req_{seed}{number}") for number in range(count)]
    shadows = [
        row("new", drawn=None, shadow_of=f"req_{seed}{number}", **changes)
        for number in range(count)
    ]
    store(database, readers, shadows)


def states(view: MigrationView) -> list[str]:
    return [step.state for step in view.steps]


def test_it_walks_from_shadow_to_everything(either_database: Database) -> None:
    database = either_database
    make_route(database)
    start(database)
    assert weights(database) == {"old": 100}
    assert read_route(database).shadow == {"deployment": "new", "share": 1.0}
    assert states(look(database)) == ["runs", "waits", "waits"]
    shadowed(database)
    view = look(database)
    assert states(view) == ["held", "runs", "waits"] and view.status == "running"
    assert weights(database) == {"old": 50, "new": 50} and read_route(database).shadow is None
    shown = view.steps[0].experiment
    assert shown is not None and shown.mode == "shadow" and shown.terms.outcome == "answered"
    store(database, thumbs("old", good=0.8, count=200), thumbs("new", good=0.85, count=200))
    view = look(database)
    assert states(view) == ["held", "held", "runs"] and weights(database) == {"new": 100}
    assert read_route(database).fallbacks == [{"deployment": "old"}]
    last = view.steps[2].experiment
    assert last is not None and (last.mode, last.terms.outcome) == ("alone", "thumbs")
    # With nobody beside it: against what the old one did in the step before.
    store(database, thumbs("new", good=0.8, count=20, seed=3))
    view = look(database)
    assert view.status == "running" and view.steps[2].experiment is not None
    standing = view.steps[2].experiment.standing
    assert standing is not None and (standing.control.units, standing.treatment.units) == (200, 20)
    store(database, thumbs("new", good=0.8, count=180, seed=4))
    view = look(database)
    assert view.status == "succeeded" and states(view) == ["held", "held", "held"]
    assert weights(database) == {"new": 100}
    assert len(view.decisions) == 4 and "held" in view.decisions[1].why


def test_the_last_step_must_hold_too(database: Database) -> None:
    make_route(database)
    start(database, steps=[0.5, 1], guardrails={"p95_seconds": 5})
    store(database, thumbs("old", good=0.8, count=200), thumbs("new", good=0.8, count=200))
    assert look(database).step == 1 and weights(database) == {"new": 100}
    # All requests at once are too much for it.
    store(database, thumbs("new", good=0.8, count=60, seed=3, seconds=20.0))
    view = look(database)
    assert (view.step, view.setbacks, view.status) == (0, 1, "running")
    assert weights(database) == {"old": 50, "new": 50} and "p95" in view.decisions[-1].why
    store(database, thumbs("old", good=0.8, count=200), thumbs("new", good=0.8, count=200))
    assert look(database).step == 1
    store(database, thumbs("new", good=0.1, count=90, seed=5))
    assert look(database).setbacks == 2


def test_where_there_is_nothing_to_compare_with_the_last_step_holds(database: Database) -> None:
    make_route(database)
    start(database, steps=[0, 1])
    shadowed(database)
    assert look(database).step == 1
    assert look(database).status == "succeeded"


def test_a_step_that_does_not_hold_goes_a_step_back(database: Database) -> None:
    make_route(database)
    start(database, steps=[0.1, 0.5, 1])
    good = thumbs("old", good=0.8, count=900), thumbs("new", good=0.8, count=100)
    store(database, *good)
    assert look(database).step == 1
    store(database, thumbs("old", good=0.9, count=150, seed=2))
    store(database, thumbs("new", good=0.1, count=150, seed=2))
    view = look(database)
    assert (view.step, view.setbacks, states(view)) == (0, 1, ["runs", "set_back", "waits"])
    assert weights(database) == {"old": 90, "new": 10}
    # What was logged in an earlier step does not count again.
    assert look(database).step == 0


def test_too_many_setbacks_or_a_rule_lead_back_to_the_start(database: Database) -> None:
    make_route(database)
    start(database, steps=[0.5, 0.9, 1], on_setback="start")
    store(database, thumbs("old", good=0.9, count=150), thumbs("new", good=0.1, count=150))
    view = look(database)
    assert view.status == "failed" and view.ended_at is not None
    assert weights(database) == {"old": 100} and view.decisions[-1].did == "Weights as before."


def test_a_shadow_that_fails_ends_it_before_any_reader_saw_it(database: Database) -> None:
    make_route(database)
    start(database)
    shadowed(database, status=503)
    assert look(database).status == "failed"
    assert read_route(database).shadow is None and weights(database) == {"old": 100}


def test_hands_pause_resume_and_roll_back(either_database: Database) -> None:
    database = either_database
    make_route(database, fallbacks=[{"deployment": "new"}])
    start(database, steps=[0.5, 1])
    paused = migration.pause_migration(database=database, **WHOSE)
    assert paused.status == "paused" and weights(database) == {"old": 50, "new": 50}
    store(database, thumbs("old", good=0.9, count=200), thumbs("new", good=0.1, count=200))
    assert look(database).status == "paused"
    with pytest.raises(Conflict, match="is paused"):
        migration.pause_migration(database=database, **WHOSE)
    with pytest.raises(Conflict, match="migration"):
        replace_route(
            database=database,
            rules=RouteRules.model_validate({"targets": [{"deployment": "old"}]}),
            **WHOSE,
        )
    migration.resume_migration(database=database, **WHOSE)
    # What came while it was paused is not counted.
    assert look(database).status == "running"
    with pytest.raises(Conflict, match="step of the route"):
        stop_experiment(database=database, roll_back=True, **WHOSE)
    stopped = migration.stop_migration(database=database, **WHOSE)
    assert stopped.status == "stopped" and weights(database) == {"old": 100}
    assert look(database).status == "stopped"
    start(database, steps=[0.5, 1])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"steps": [1]}, "steps"),
        ({"steps": [0.5, 0.1, 1]}, "rise"),
        ({"steps": [0.1, 0.5]}, "end with 1"),
        ({"steps": [-0.1, 1]}, "steps"),
        ({"to": "old"}, "to: must be another"),
        ({"goal": "superiority"}, "non_inferiority|margin"),
        ({"margin": None}, "margin"),
    ],
)
def test_ladders_that_cannot_be_climbed_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        MigrationSpec.model_validate({"from": "old", "to": "new"} | changes)


def test_it_begins_where_requests_go(database: Database) -> None:
    make_route(database)
    with pytest.raises(InvalidData, match="from"):
        start(database, **{"from": "new", "to": "old"})
    with pytest.raises(InvalidData, match=r"to.deployment"):
        start(database, to="nobody")
