"""Experiments and migrations on real requests: asked, answered, rated, logged, decided, routed."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from tests.gateway.api.live import Live, chat, live_gateway
from tests.gateway.parts import until_true

PLACE = "/api/routes/best/experiment"
WALK = "/api/routes/best/migration"
ARMS = ("control", "treatment")
# More than what is needed for the differences of these tests.
MOST_REQUESTS = 1200


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    quick = settings.model_copy(update={"experiment_seconds": 0.2})
    with live_gateway(quick) as live:
        live.deploy("old")
        live.deploy("new")
        route = {"name": "best", "targets": [{"deployment": "old"}], "sticky": "user"}
        assert live.http.post("/api/routes", json=route).status_code == 201
        yield live


def ask_until(live: Live, ended: Callable[[], bool], *, good: dict[str, int]) -> None:
    """Ask and rate: of the answers of each, so many in ten get a thumb up."""
    for number in range(MOST_REQUESTS):
        answer = chat(live, "best", user=f"user {number}")
        assert answer.status_code == 200
        who = answer.headers["x-genplat-served-by"]
        rating = "up" if number % 10 < good[who] else "down"
        live.http.post(
            f"/api/requests/{answer.headers['x-genplat-request-id']}/feedback",
            json={"rating": rating},
        )
        if number % 20 == 0 and ended():
            return
    until_true(ended)


def status(live: Live, place: str) -> str:
    return str(live.http.get(place).json()["status"])


def test_an_experiment_decides_by_itself(live: Live) -> None:
    arms = {"control": "old", "treatment": "new", "min_effect": 0.3}
    assert live.http.post(PLACE, json=arms).status_code == 201
    ask_until(live, lambda: status(live, PLACE) != "running", good={"old": 2, "new": 8})
    found = live.http.get(PLACE).json()
    assert found["status"] == "succeeded", found
    assert found["standing"]["control"]["units"] > 10
    assert {chat(live, "best").headers["x-genplat-served-by"] for _ in range(5)} == {"new"}
    # What was replaced is there where the new one fails.
    live.inference.dead = {"new"}
    assert chat(live, "best").headers["x-genplat-served-by"] == "old"


@pytest.mark.parametrize("trouble", ["dead", "deleted"])
def test_a_failing_treatment_is_rolled_back(live: Live, trouble: str) -> None:
    arms = {"control": "old", "treatment": "new", "guardrails": {"max_error_increase": 0.05}}
    assert live.http.post(PLACE, json=arms).status_code == 201
    if trouble == "deleted":
        assert live.http.delete("/api/deployments/new").status_code == 204
    else:
        live.inference.dead = {"new"}
    ask_until(live, lambda: status(live, PLACE) != "running", good={"old": 8, "new": 8})
    found = live.http.get(PLACE).json()
    assert found["status"] == "rolled_back" and found["standing"]["treatment"]["errors"] > 5
    targets = live.http.get("/api/routes/best").json()["targets"]
    assert [target["deployment"] for target in targets] == ["old"]


def test_drills_and_second_thoughts_are_not_counted(live: Live) -> None:
    assert live.http.post(PLACE, json={"control": "old", "treatment": "new"}).status_code == 201
    live.inference.words = [f"word{number} " for number in range(8)]
    for fault in ("cut", "500"):
        assert live.http.post("/api/routes/best/drill", json={"fault": fault}).status_code == 200
        for _ in range(3):
            assert "[DONE]" in chat(live, "best", stream=True).text
    live.http.delete("/api/routes/best/drill")
    rated = chat(live, "best").headers["x-genplat-request-id"]
    for rating in ("up", "down", None):
        said = live.http.post(f"/api/requests/{rated}/feedback", json={"rating": rating})
        assert said.status_code == 200

    def standing() -> Any:
        nothing = {arm: {"units": 0} for arm in ARMS}
        return live.http.get(PLACE).json()["standing"] or nothing

    until_true(lambda: sum(standing()[arm]["units"] for arm in ARMS) == 1)
    assert sum(standing()[arm]["requests"] for arm in ARMS) == 1
    assert sum(standing()[arm]["rate"] or 0 for arm in ARMS) == 1


def test_a_migration_walks_from_shadow_to_the_end(live: Live) -> None:
    walk = {"from": "old", "to": "new", "steps": [0, 0.5, 1], "margin": 0.3}
    assert live.http.post(WALK, json=walk).status_code == 201
    ask_until(live, lambda: status(live, WALK) != "running", good={"old": 8, "new": 8})
    found = live.http.get(WALK).json()
    assert found["status"] == "succeeded", found["decisions"]
    assert [step["state"] for step in found["steps"]] == ["held", "held", "held"]
    shadows = live.http.get("/api/routes/best/shadow").json()["data"]
    assert shadows[0]["shadow"] == "new" and shadows[0]["alike"] == 1.0
    route = live.http.get("/api/routes/best").json()
    assert [target["deployment"] for target in route["targets"]] == ["new"]
    assert [place["deployment"] for place in route["fallbacks"]] == ["old"]
