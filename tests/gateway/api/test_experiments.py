"""Experiments and migrations over HTTP."""

from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from gateway.database import Database
from gateway.orchestrator.experiments import watch
from gateway.services import Services
from tests.gateway.orchestrator.experiments.traffic import make_route, store, thumbs

PLACE = "/api/routes/best/experiment"
WALK = "/api/routes/best/migration"
ARMS = {"control": "old", "treatment": {"deployment": "new"}}
STEPS = {"from": "old", "to": "new", "steps": [0.5, 1], "margin": 0.2}


@pytest.fixture
def database(client: TestClient) -> Database:
    services: Services = client.app.state.services  # type: ignore[attr-defined]
    make_route(services.database)
    return services.database


def look(database: Database) -> None:
    for experiment_id in _running(database):
        with database.write() as session:
            session.get_one(watch.Experiment, experiment_id).looked_at = None
        watch.look_at(database, experiment_id, since=watch.now())


def _running(database: Database) -> list[str]:
    with database.read() as session:
        return list(
            session.exec(
                watch.select(watch.Experiment.id).where(watch.Experiment.status == "running")
            )
        )


def shares(client: TestClient) -> dict[str, float]:
    targets = client.get("/api/routes/best").json()["targets"]
    return {target["deployment"]: target["weight"] for target in targets}


def test_an_experiment_over_http(client: TestClient, database: Database) -> None:
    assert client.get(PLACE).json()["error"]["code"] == "experiment_not_found"
    sent: dict[str, Any] = {"json": ARMS | {"share": 0.5}, "headers": {"Idempotency-Key": "k1"}}
    made = client.post(PLACE, **sent)
    assert made.status_code == 201, made.text
    again = client.post(PLACE, **sent)
    assert again.json() == made.json() and again.headers["Idempotent-Replayed"] == "true"
    assert client.post(PLACE, json=ARMS).json()["error"]["code"] == "experiment_running"
    rules = {"targets": [{"deployment": "old"}]}
    refused = client.put("/api/routes/best", json=rules)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "experiment_running")
    assert shares(client) == {"old": 50, "new": 50}
    store(database, thumbs("old", good=0.3, count=150), thumbs("new", good=0.9, count=150))
    look(database)
    found = client.get(PLACE).json()
    assert found["status"] == "succeeded" and found["standing"]["low"] > 0
    assert found["terms"]["guardrails"]["max_error_increase"] == 0.02
    assert shares(client) == {"new": 100}
    assert client.post(f"{PLACE}/stop").json()["error"]["code"] == "experiment_ended"


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (("DELETE", PLACE, None), {"old": 100}),
        (("POST", f"{PLACE}/stop", {"roll_back": True}), {"old": 100}),
        (("POST", f"{PLACE}/stop", None), {"old": 50, "new": 50}),
    ],
)
def test_it_is_stopped_by_hand(
    client: TestClient, database: Database, stop: Any, expected: dict[str, float]
) -> None:
    client.post(PLACE, json=ARMS)
    method, path, body = stop
    answer = client.request(method, path, json=body)
    assert (answer.status_code, answer.json()["status"]) == (200, "stopped")
    assert shares(client) == expected


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"share": 1}, "share"),
        ({"treatment": "nobody"}, "treatment.deployment"),
        ({"control": "nobody"}, "control"),
        ({"guardrails": {"max_error_increase": -1}}, "guardrails.max_error_increase"),
        ({"outcome": "judge", "judge": "nobody"}, "judge"),
        ({"max_days": 31}, "max_days"),
    ],
)
def test_what_is_wrong_is_named(
    client: TestClient, database: Database, changes: dict[str, Any], param: str
) -> None:
    answer = client.post(PLACE, json=ARMS | changes)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)


@pytest.mark.parametrize(
    ("kept", "terms", "code"),
    [
        ("none", {}, "request_log_off"),
        ("metadata", {"outcome": "judge", "judge": "old"}, "request_log_without_words"),
    ],
)
def test_what_is_not_logged_cannot_be_compared(
    client: TestClient, database: Database, kept: Any, terms: dict[str, str], code: str
) -> None:
    services: Services = client.app.state.services  # type: ignore[attr-defined]
    services.settings.request_log = kept
    for place, body in ((PLACE, ARMS), (WALK, STEPS)):
        answer = client.post(place, json=body | terms)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, code)
    assert shares(client) == {"old": 100}


def test_a_migration_over_http(client: TestClient, database: Database) -> None:
    assert client.get(WALK).json()["error"]["code"] == "migration_not_found"
    made = client.post(WALK, json=STEPS, headers={"Idempotency-Key": "k2"})
    assert made.status_code == 201, made.text
    shown = made.json()
    assert (shown["from"], shown["to"], shown["step"]) == ("old", "new", 0)
    assert [step["state"] for step in shown["steps"]] == ["runs", "waits"]
    assert client.post(WALK, json=STEPS).json()["error"]["code"] == "migration_running"
    assert client.post(f"{WALK}/pause").json()["status"] == "paused"
    assert client.post(f"{WALK}/pause").status_code == 409
    assert client.post(f"{WALK}/resume").json()["status"] == "running"
    store(database, thumbs("old", good=0.8, count=300), thumbs("new", good=0.8, count=300))
    look(database)
    assert client.get(WALK).json()["steps"][1]["experiment"]["mode"] == "alone"
    store(database, thumbs("new", good=0.8, count=300, seed=2))
    look(database)
    found = client.get(WALK).json()
    assert found["status"] == "succeeded" and shares(client) == {"new": 100}
    assert client.get("/api/routes/best").json()["fallbacks"] == [{"deployment": "old"}]
    assert client.delete(WALK).status_code == 409
    # The same request is answered with the same migration, though another one came after it.
    client.put("/api/routes/best", json={"targets": [{"deployment": "old"}]})
    later = client.post(WALK, json=STEPS).json()["id"]
    again = client.post(WALK, json=STEPS, headers={"Idempotency-Key": "k2"}).json()["id"]
    assert (again, client.get(WALK).json()["id"]) == (shown["id"], later)


def test_a_migration_is_rolled_back_by_hand(client: TestClient, database: Database) -> None:
    client.post(WALK, json=STEPS)
    assert client.delete(WALK).json()["status"] == "stopped"
    assert shares(client) == {"old": 100}


def test_forecasts_follow_the_route_s_last_days(client: TestClient, database: Database) -> None:
    nothing = client.post(f"{PLACE}/forecast", json=ARMS).json()
    assert nothing["units_a_day"] == 0 and nothing["days"] is None
    assert nothing["needed_units"] > 5000
    day_ago = watch.now() - timedelta(days=1)
    store(database, thumbs("old", good=0.9, count=500, created_at=day_ago))
    found = client.post(f"{PLACE}/forecast", json=ARMS).json()
    # From a rate of 0.9 a gain is found sooner than from one half, the worst case.
    assert found["needed_units"] < nothing["needed_units"]
    assert found["units_a_day"] == pytest.approx(500, rel=0.01)
    assert found["days"] == pytest.approx(found["needed_units"] / found["units_a_day"])
    steps = client.post(f"{WALK}/forecast", json=STEPS | {"steps": [0, 0.5, 1]}).json()["data"]
    assert [step["share"] for step in steps] == [0, 0.5]
    # All were answered, but few have a thumb.
    assert steps[0]["units_a_day"] == pytest.approx(1000, rel=0.01)
    assert client.get(PLACE).status_code == 404 and shares(client) == {"old": 100}


def test_routes_that_prefer_the_fastest_are_not_compared_on(
    client: TestClient, database: Database
) -> None:
    rules = {"targets": [{"deployment": "old"}], "balance": "fastest"}
    assert client.put("/api/routes/best", json=rules).status_code == 200
    for place, body in ((PLACE, ARMS), (WALK, STEPS)):
        answer = client.post(place, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_drawn_by_weight")


def test_others_see_none_of_it(client: TestClient, database: Database, other_owner: str) -> None:
    client.post(PLACE, json=ARMS)
    client.headers["Authorization"] = f"Bearer {other_owner}"
    for method, path, body in (
        ("GET", PLACE, None),
        ("POST", PLACE, ARMS),
        ("DELETE", PLACE, None),
        ("POST", f"{PLACE}/stop", None),
        ("GET", WALK, None),
        ("POST", WALK, STEPS),
        ("DELETE", WALK, None),
        ("POST", f"{WALK}/pause", None),
        ("POST", f"{WALK}/resume", None),
        ("POST", f"{PLACE}/forecast", ARMS),
        ("POST", f"{WALK}/forecast", STEPS),
    ):
        assert client.request(method, path, json=body).status_code == 404, (method, path)
