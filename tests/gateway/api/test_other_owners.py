"""Deployments and routes of somebody else: as if they did not exist."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway import keys
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import CHAT, Live, chat, live_gateway, refusal
from tests.gateway.parts import LONG, until_true


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


@pytest.fixture
def theirs(live: Live) -> Iterator[httpx.Client]:
    """A client with the key of somebody else."""
    _, secret = keys.create_key(database=live.services.database, owner="other", name="theirs")
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=live.url, headers=headers, timeout=LONG) as client:
        yield client


RULES: dict[str, Any] = {"targets": [{"deployment": "own"}]}

TARGET = {"targets": [{"deployment": "NAME"}]}

FALLBACK = {"fallbacks": ["NAME"]} | RULES


@pytest.mark.parametrize(
    ("status", "method", "path", "body"),
    [
        (404, "GET", "/api/deployments/NAME", None),
        (404, "DELETE", "/api/deployments/NAME", None),
        (404, "POST", "/api/deployments/NAME/predict", {"inputs": "Hi"}),
        (404, "GET", "/api/deployments/NAME/openapi.json", None),
        (404, "GET", "/api/deployments/NAME/docs", None),
        (404, "GET", "/api/routes/NAME", None),
        (404, "PUT", "/api/routes/NAME", RULES),
        (404, "DELETE", "/api/routes/NAME", None),
        (404, "GET", "/v1/models/NAME", None),
        (404, "DELETE", "/v1/models/NAME", None),
        (404, "POST", "/v1/chat/completions", CHAT | {"model": "NAME"}),
        (404, "POST", "/v1/chat/completions", CHAT | {"model": "NAME", "stream": True}),
        (404, "POST", "/v1/completions", {"model": "NAME", "prompt": "Hi"}),
        (404, "POST", "/api/diagrams", {"model": "NAME", "scenario": "Alice greets Bob."}),
        (422, "POST", "/api/routes", {"name": "new"} | TARGET),
        (422, "POST", "/api/routes", {"name": "new"} | FALLBACK),
        (422, "PUT", "/api/routes/own-route", TARGET),
        (422, "PUT", "/api/routes/own-route", FALLBACK),
    ],
)
def test_deployments_and_routes_of_others_do_not_exist(
    live: Live,
    theirs: httpx.Client,
    status: int,
    method: str,
    path: str,
    body: dict[str, Any] | None,
) -> None:
    live.deploy("main")
    live.http.post("/api/routes", json={"name": "best", "targets": [{"deployment": "main"}]})
    own = {"name": "own", "model": BUNDLED_MODEL}
    assert theirs.post("/api/deployments", json=own).status_code == 201
    assert theirs.post("/api/routes", json={"name": "own-route"} | RULES).status_code == 201
    lists = ("/api/deployments", "/api/routes")
    before = [live.http.get(kind).json() for kind in lists]
    answers = []
    for name in ("main", "best", "none"):
        filled = json.loads(json.dumps(body).replace("NAME", name))
        answer = theirs.request(method, path.replace("NAME", name), json=filled)
        answers.append((answer.status_code, answer.text.replace(name, "NAME")))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == status
    assert [live.http.get(kind).json() for kind in lists] == before
    assert live.inference.asked == [] and "main" in live.inference.models


def test_lists_hold_ones_own_names_alone(live: Live, theirs: httpx.Client) -> None:
    live.deploy("main")
    live.http.post("/api/routes", json={"name": "best", "targets": [{"deployment": "main"}]})
    for path in ("/api/deployments", "/api/routes"):
        assert theirs.get(path).json()["data"] == []
    listed = {model["id"] for model in theirs.get("/v1/models").json()["data"]}
    assert listed & {"main", "best"} == set()


def test_what_others_trained_cannot_be_deployed(live: Live, theirs: httpx.Client) -> None:
    run = live.succeeded_run()
    for model in (run.id, run.fine_tuned_model):
        answer = theirs.post("/api/deployments", json={"name": "a", "model": model})
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "model")


def test_a_route_asks_nobody_who_took_the_name_of_its_deployment(
    live: Live, theirs: httpx.Client
) -> None:
    live.deploy("main")
    live.http.post("/api/routes", json={"name": "best", "targets": [{"deployment": "main"}]})
    assert live.http.delete("/api/deployments/main").status_code == 204
    taken = {"name": "main", "model": BUNDLED_MODEL}
    assert theirs.post("/api/deployments", json=taken).status_code == 201
    until_true(lambda: theirs.get("/api/deployments/main").json()["state"] == "ready")
    assert refusal(chat(live, "best")) == (503, "model_unavailable")
    assert live.inference.asked == []
