"""Deployments over HTTP: made, loaded, failing, coming back, gone."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from gateway import deployments
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from shared.storage import Storage
from tests.gateway.api.live import CHAT, Live, chat, live_gateway, refusal
from tests.gateway.parts import fake_prepared, until_true


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


def test_a_deployment_from_loading_to_gone(live: Live) -> None:
    run = live.succeeded_run()
    body = {"name": "uml-1.0", "model": run.fine_tuned_model}
    made = live.http.post("/api/deployments", json=body)
    assert made.status_code == 201
    assert made.json() | {"state": "", "created_at": ""} == {
        "name": "uml-1.0",
        "model": run.fine_tuned_model,
        "base_model": BUNDLED_MODEL,
        "run_id": run.id,
        "checkpoint": None,
        "state": "",
        "error": None,
        "precision": "auto",
        "parity": None,
        "url": "/api/deployments/uml-1.0/predict",
        "docs_url": "/api/deployments/uml-1.0/docs",
        "gate": None,
        "created_at": "",
    }
    until_true(lambda: live.state("uml-1.0") == "ready")
    assert live.inference.models["uml-1.0"]["ref"] == {
        "base_model": BUNDLED_MODEL,
        "run_id": run.id,
        "precision": "auto",
        "checkpoint": None,
    }
    assert live.http.post("/api/deployments", json=body).status_code == 409
    assert live.http.delete("/api/deployments/uml-1.0").status_code == 204
    assert "uml-1.0" not in live.inference.models
    assert live.http.get("/api/deployments/uml-1.0").status_code == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Bad Name"),
        ("name", "../x"),
        ("model", "run_unknown"),
        ("precision", "int8"),
        ("adapter_path", "/etc"),
    ],
)
def test_a_wrong_deployment_is_refused(live: Live, field: str, value: str) -> None:
    body = {"name": "a", "model": BUNDLED_MODEL} | {field: value}
    answer = live.http.post("/api/deployments", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, field)


def test_a_run_without_a_model_cannot_be_deployed(live: Live) -> None:
    run = live.succeeded_run(status="failed", fine_tuned_model=None)
    answer = live.http.post("/api/deployments", json={"name": "a", "model": run.id})
    assert answer.status_code == 422 and "failed" in answer.json()["error"]["message"]


def test_deployments_come_back_when_inference_does(live: Live) -> None:
    live.deploy("a")
    live.inference.stop()
    until_true(lambda: live.state("a") == "loading")
    shown = live.http.get("/api/deployments/a").json()
    assert shown["error"] == "The inference service is not reachable."
    assert refusal(chat(live, "a")) == (503, "model_unavailable")
    live.inference.start()
    until_true(lambda: live.state("a") == "ready")
    assert live.http.get("/api/deployments/a").json()["error"] is None
    assert live.inference.loads["a"] == 2
    assert chat(live, "a").status_code == 200


def test_what_no_deployment_wants_is_unloaded(live: Live) -> None:
    live.deploy("a")
    live.inference.models["left-over"] = live.inference.models["a"] | {"name": "left-over"}
    until_true(lambda: "left-over" not in live.inference.models)
    assert "a" in live.inference.models


def deploy_what_fails(live: Live, name: str) -> None:
    live.inference.refuses_to_load = {name}
    answer = live.http.post("/api/deployments", json={"name": name, "model": BUNDLED_MODEL})
    assert answer.status_code == 201
    until_true(lambda: live.state(name) == "failed")


def test_a_model_that_cannot_be_loaded_says_why(live: Live) -> None:
    deploy_what_fails(live, "a")
    assert live.http.get("/api/deployments/a").json()["error"] == "Said bad_adapter."
    assert refusal(chat(live, "a")) == (503, "model_unavailable")
    # Others are loaded meanwhile, one sweep each; this one has to wait its minute.
    live.deploy("b")
    live.deploy("c")
    assert live.inference.loads["a"] == 1


def test_a_failed_deployment_is_tried_again_after_a_while(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployments, "RETRY_SECONDS", 0.3)
    deploy_what_fails(live, "a")
    tried = live.inference.loads["a"]
    until_true(lambda: live.inference.loads["a"] > tried)
    live.inference.refuses_to_load = set()
    until_true(lambda: live.state("a") == "ready")
    assert live.http.get("/api/deployments/a").json()["error"] is None


def test_a_name_that_failed_serves_something_else_at_once(live: Live) -> None:
    deploy_what_fails(live, "a")
    assert live.http.delete("/api/deployments/a").status_code == 204
    live.inference.refuses_to_load = set()
    live.deploy("a")


def test_predictions_are_asked_side_by_side(live: Live) -> None:
    live.deploy("a")
    # It answers none before all three are there.
    live.inference.holds_for = 3
    body = {"inputs": ["one", "two", "three"], "parameters": {"max_tokens": 5, "temperature": 0}}
    answer = live.http.post("/api/deployments/a/predict", json=body)
    assert answer.json() == {
        "outputs": ["Hello there!"] * 3,
        "usage": {"prompt_tokens": 15, "completion_tokens": 9, "total_tokens": 24},
    }
    assert answer.headers["x-genplat-served-by"] == "a"
    assert live.inference.most_at_once == 3
    assert {asked["messages"][0]["content"] for asked in live.inference.asked} == {
        "one",
        "two",
        "three",
    }
    one = live.http.post("/api/deployments/a/predict", json={"inputs": "one"})
    assert one.json()["outputs"] == ["Hello there!"]
    live.inference.dead = {"a"}
    assert live.http.post("/api/deployments/a/predict", json=body).status_code == 503
    wrong = body | {"parameters": {"stream": True}}
    assert live.http.post("/api/deployments/a/predict", json=wrong).status_code == 422


def test_a_deployments_own_documentation(live: Live) -> None:
    live.deploy("a")
    page = live.http.get("/api/deployments/a/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/api/deployments/a/openapi.json" in page.text
    document = live.http.get("/api/deployments/a/openapi.json").json()
    names = {path["post"]["operationId"] for path in document["paths"].values()}
    assert names == {"predict", "chat"}
    assert list(document["paths"]) == ["/api/deployments/a/predict", "/v1/chat/completions"]
    for path, operations in document["paths"].items():
        content = operations["post"]["requestBody"]["content"]["application/json"]
        assert live.http.post(path, json=content["example"]).status_code == 200
    assert live.http.get("/api/deployments/b/docs").status_code == 404


def test_without_inference_the_answer_says_so(client: TestClient, storage: Storage) -> None:
    fake_prepared(storage, BUNDLED_MODEL)
    for stream in (False, True):
        body = CHAT | {"model": BUNDLED_MODEL, "stream": stream}
        answer = client.post("/v1/chat/completions", json=body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["error"]["code"] == "model_unavailable"
