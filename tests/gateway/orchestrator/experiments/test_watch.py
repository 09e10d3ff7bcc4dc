"""Experiments from start to end on a database: who looks, what is decided, what becomes of the
route."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from gateway.database import Database
from gateway.migrations import migrate
from gateway.orchestrator.experiments import watch
from gateway.orchestrator.experiments.spec import ExperimentSpec
from gateway.orchestrator.experiments.store import (
    end,
    get_experiment,
    start_experiment,
    stop_experiment,
    view_of,
)
from gateway.orchestrator.routes import RouteRules, delete_route, replace_route
from gateway.tables import Experiment, Route, now
from shared.errors import Conflict, InvalidData, NotFound
from tests.gateway.orchestrator.experiments.traffic import (
    OWNER,
    ROUTE,
    back_dated,
    make_route,
    read_route,
    row,
    started,
    store,
    thumbs,
    weights,
)
from tests.gateway.parts import until_true

ALWAYS = timedelta(0)
RULES = RouteRules.model_validate({"targets": [{"deployment": "old"}]})


def look(database: Database) -> Experiment:
    watch.look_at_all(database, ALWAYS)
    return get_experiment(database=database, owner=OWNER, name=ROUTE)


def test_a_better_treatment_is_promoted(either_database: Database) -> None:
    database = either_database
    make_route(database)
    started(database, share=0.25)
    assert weights(database) == {"old": 75, "new": 25}
    assert look(database).status == "running"
    store(database, thumbs("old", good=0.3, count=300))
    store(database, thumbs("new", good=0.9, count=100, every=3))
    found = look(database)
    assert found.status == "succeeded" and found.ended_at is not None
    assert weights(database) == {"new": 100}
    assert read_route(database).fallbacks == [{"deployment": "old"}]
    view = view_of(found)
    assert [made.status for made in view.decisions] == ["running", "succeeded"]
    assert view.decisions[1].did == "Weights: new 100"
    assert view.standing is not None and view.standing.control.units == 300
    first, last = (seen.units for seen in view.looks)
    assert first == 0 and 396 <= last <= 400


def test_a_worse_one_is_rolled_back_and_a_failing_one_too(database: Database) -> None:
    make_route(database)
    before = read_route(database).targets
    started(database)
    store(database, thumbs("old", good=0.9, count=150), thumbs("new", good=0.3, count=150))
    assert look(database).status == "failed" and read_route(database).targets == before
    started(database)
    for _ in range(60):
        stepped_in = {"served_by": "old", "fallbacks": 1, "fallback_reason": "stream_cut"}
        store(database, [row("old"), row("new", **stepped_in)])
    found = look(database)
    assert found.status == "rolled_back" and "max_error_increase" in found.decisions[-1]["why"]
    assert read_route(database).targets == before


def test_without_actions_the_weights_stay(database: Database) -> None:
    make_route(database)
    started(database, on_success="none", on_failure="none")
    store(database, thumbs("old", good=0.3, count=150), thumbs("new", good=0.9, count=150))
    assert look(database).status == "succeeded" and weights(database) == {"old": 50, "new": 50}


def test_time_that_is_over_ends_it(database: Database) -> None:
    make_route(database)
    experiment = started(database, max_days=3)
    back_dated(database, experiment.id, days=2.9)
    assert look(database).status == "running"
    back_dated(database, experiment.id, days=3.1)
    assert look(database).status == "failed" and weights(database) == {"old": 100}


def test_what_was_logged_before_or_of_others_does_not_count(database: Database) -> None:
    make_route(database)
    early = now() - timedelta(hours=1)
    store(database, thumbs("old", good=0, count=200, created_at=early))
    started(database)
    store(database, thumbs("old", good=0, count=200, owner="somebody"))
    store(database, thumbs("old", good=0, count=200, route="other", seed=2))
    store(database, thumbs("new", good=1, count=200))
    found = look(database)
    assert found.status == "running"
    assert found.standing is not None and found.standing["control"]["requests"] == 0


def test_of_several_gateways_one_looks(either_database: Database) -> None:
    database = either_database
    make_route(database)
    experiment = started(database)
    period = timedelta(minutes=1)
    watch.look_at_all(database, period)
    first = get_experiment(database=database, owner=OWNER, name=ROUTE)
    watch.look_at_all(database, period)
    again = get_experiment(database=database, owner=OWNER, name=ROUTE)
    assert first.looked_at is not None and again.looked_at == first.looked_at
    # One whose claim was taken over writes nothing.
    seen = watch._claim(database, experiment.id, now())
    assert seen is not None
    store(database, thumbs("old", good=0.3, count=150), thumbs("new", good=0.9, count=150))
    assert look(database).status == "succeeded"


def test_gateways_that_look_at_once_act_once(either_database: Database) -> None:
    database = either_database
    make_route(database)
    started(database)
    store(database, thumbs("old", good=0.3, count=150), thumbs("new", good=0.9, count=150))
    with ThreadPoolExecutor(4) as gateways:
        list(gateways.map(watch.look_at_all, [database] * 4, [ALWAYS] * 4))
    found = look(database)
    assert [made["status"] for made in found.decisions] == ["running", "succeeded"]
    assert weights(database) == {"new": 100}


def test_a_look_that_lost_its_claim_changes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_route(database)
    started(database)
    store(database, thumbs("old", good=0.3, count=150), thumbs("new", good=0.9, count=150))
    read = watch.read_standing

    def slow_read(where: Database, experiment: Experiment) -> object:
        found = read(where, experiment)
        assert watch._claim(where, experiment.id, now()) is not None
        return found

    monkeypatch.setattr(watch, "read_standing", slow_read)
    found = look(database)
    assert found.status == "running" and found.standing is None
    assert weights(database) == {"old": 50, "new": 50}


def test_hands_and_looks_do_not_wait_for_each_other(postgres: Database) -> None:
    database = postgres
    migrate(database)
    make_route(database)
    experiment = started(database)
    store(database, thumbs("old", good=0.3, count=150), thumbs("new", good=0.9, count=150))
    with ThreadPoolExecutor(1) as pool:
        with database.write() as session:
            # As who stops it by hand: the route, then the experiment.
            session.get_one(Route, ROUTE, with_for_update=True)
            looking = pool.submit(watch.look_at_all, database, ALWAYS)
            until_true(lambda: _waits_for_a_lock(database))
            stored = session.get_one(Experiment, experiment.id)
            end(session, stored, "stopped", "By hand.", "Weights stay.")
        looking.result(timeout=30)
    found = get_experiment(database=database, owner=OWNER, name=ROUTE)
    assert found.status == "stopped" and weights(database) == {"old": 50, "new": 50}


def _waits_for_a_lock(database: Database) -> bool:
    with database.read() as session:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(session.connection().execute(query).scalar())


def test_requests_that_are_too_many_to_count_end_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MOST_ROWS", 40)
    make_route(database)
    started(database)
    store(database, thumbs("old", good=0.5, count=15), thumbs("new", good=0.5, count=15))
    assert look(database).status == "running"
    store(database, [row("old") for _ in range(10)])
    found = look(database)
    assert found.status == "failed" and "can be counted" in found.decisions[-1]["why"]


def test_a_gateway_that_dies_while_it_acts_has_done_nothing(
    either_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = either_database
    make_route(database)
    started(database)
    store(database, thumbs("old", good=0.3, count=150), thumbs("new", good=0.9, count=150))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(watch, "step_ended", die)
        look(database)
    found = get_experiment(database=database, owner=OWNER, name=ROUTE)
    assert found.status == "running" and weights(database) == {"old": 50, "new": 50}
    # The next one decides, and acts once.
    assert [made["status"] for made in look(database).decisions] == ["running", "succeeded"]
    assert len(look(database).decisions) == 2 and weights(database) == {"new": 100}


def test_one_that_cannot_be_read_keeps_no_other_waiting(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    make_route(database)
    unreadable = started(database)
    with database.write() as session:
        session.get_one(Experiment, unreadable.id).standing = {"of": "another version"}
        session.add(Route(name="other", owner=OWNER, targets=read_route(database).targets))
    spec = ExperimentSpec.model_validate({"control": "old", "treatment": "new"})
    start_experiment(database=database, owner=OWNER, name="other", spec=spec)
    watch.look_at_all(database, ALWAYS)
    seen = get_experiment(database=database, owner=OWNER, name="other")
    assert seen.standing is not None and unreadable.id in caplog.text


def test_nobody_edits_a_route_under_an_experiment(either_database: Database) -> None:
    database = either_database
    make_route(database)
    started(database)
    with pytest.raises(Conflict, match="End that first") as refused:
        replace_route(database=database, owner=OWNER, name=ROUTE, rules=RULES)
    assert refused.value.code == "experiment_running"
    with pytest.raises(Conflict):
        delete_route(database=database, owner=OWNER, name=ROUTE)
    with pytest.raises(Conflict):
        started(database)
    stop_experiment(database=database, owner=OWNER, name=ROUTE, roll_back=True)
    assert weights(database) == {"old": 100}
    replace_route(database=database, owner=OWNER, name=ROUTE, rules=RULES)
    with pytest.raises(Conflict, match="has ended"):
        stop_experiment(database=database, owner=OWNER, name=ROUTE, roll_back=False)
    delete_route(database=database, owner=OWNER, name=ROUTE)
    make_route(database, labels=("third",))
    with pytest.raises(NotFound, match="no experiment"):
        get_experiment(database=database, owner=OWNER, name=ROUTE)


def test_places_are_checked_at_the_start(database: Database) -> None:
    make_route(database)
    with pytest.raises(InvalidData, match=r"treatment.deployment"):
        started(database, treatment="nobody")
    with pytest.raises(InvalidData, match=r"treatment.upstream"):
        started(database, treatment="upstream/large")
    with pytest.raises(InvalidData, match="control"):
        started(database, control="new", treatment="old")
    assert weights(database) == {"old": 100}


def test_the_plots_points_are_thinned_out(database: Database) -> None:
    make_route(database)
    started(database)
    for number in range(3):
        store(database, thumbs("old", good=0.5, count=1, seed=number))
        store(database, thumbs("new", good=0.5, count=1, seed=number))
        found = look(database)
        found = look(database)
    assert [point["units"] for point in found.looks] == [2, 4, 6]
    standing = watch.read_standing(database, found)
    for units in range(1000):
        watch._note(found, standing.model_copy(update={"units": 10 + units}))
    assert len(found.looks) <= watch.MOST_LOOKS
    shown = [point["units"] for point in found.looks]
    assert shown == sorted(shown) and shown[0] == 2 and shown[-1] == 1009
