"""Deployments, routes and diagrams over HTTP, with models that come and go."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from gateway import keys
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from shared.storage import Storage
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.fake_inference import BROKEN, SOURCE
from tests.gateway.parts import fake_prepared, until_true

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


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
        "state": "",
        "error": None,
        "precision": "auto",
        "parity": None,
        "url": "/api/deployments/uml-1.0/predict",
        "docs_url": "/api/deployments/uml-1.0/docs",
        "created_at": "",
    }
    until_true(lambda: live.state("uml-1.0") == "ready")
    assert live.inference.models["uml-1.0"]["ref"] == {
        "base_model": BUNDLED_MODEL,
        "run_id": run.id,
        "precision": "auto",
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
    live.inference.models.clear()
    until_true(lambda: "a" in live.inference.models)
    live.inference.models["left-over"] = live.inference.models["a"] | {"name": "left-over"}
    until_true(lambda: "left-over" not in live.inference.models)


def test_a_model_that_cannot_be_loaded_says_why(live: Live) -> None:
    live.inference.refuses_to_load = {"a"}
    live.http.post("/api/deployments", json={"name": "a", "model": BUNDLED_MODEL})
    until_true(lambda: live.state("a") == "failed")
    assert live.http.get("/api/deployments/a").json()["error"] == "Said bad_adapter."
    answer = live.http.post("/v1/chat/completions", json=CHAT | {"model": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_unavailable")


def test_an_unprepared_base_is_prepared_first(live: Live) -> None:
    other = "HuggingFaceTB/SmolLM2-360M-Instruct"
    live.inference.unprepared = {other}
    live.http.post("/api/deployments", json={"name": "a", "model": other})

    def state() -> str:
        items = live.http.get("/api/library").json()["data"]
        return next(str(item["state"]) for item in items if item["id"] == other)

    until_true(lambda: state() == "preparing")
    assert live.state("a") == "loading"
    fake_prepared(live.services.storage, other)
    live.inference.unprepared = set()
    until_true(lambda: live.state("a") == "ready")


def test_predictions_are_asked_side_by_side(live: Live) -> None:
    live.deploy("a")
    live.inference.seconds_a_word = 0.05
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


def make_route(live: Live, **rules: object) -> None:
    for name in ("main", "spare", "last"):
        live.deploy(name)
    body = {
        "name": "best",
        "targets": [{"deployment": "main", "weight": 1}],
        "fallbacks": ["spare", {"deployment": "last"}],
    }
    assert live.http.post("/api/routes", json=body | rules).status_code == 201


def ask(live: Live, **changes: object) -> tuple[int, dict[str, str]]:
    answer = live.http.post("/v1/chat/completions", json=CHAT | {"model": "best"} | changes)
    headers = {
        name.removeprefix("x-genplat-"): value
        for name, value in answer.headers.items()
        if name.startswith("x-genplat-")
    }
    return answer.status_code, headers


@pytest.mark.parametrize("stream", [False, True])
def test_a_dead_targets_request_goes_to_its_fallback(live: Live, stream: bool) -> None:
    make_route(live)
    assert ask(live, stream=stream) == (
        200,
        {"route": "best", "served-by": "main", "fallbacks": "0"},
    )
    live.inference.dead = {"main"}
    assert ask(live, stream=stream)[1] == {
        "route": "best",
        "served-by": "spare",
        "fallbacks": "1",
        "fallback-reason": "overloaded",
    }
    live.http.delete("/api/deployments/spare")
    status, headers = ask(live, stream=stream)
    assert (status, headers["served-by"], headers["fallbacks"]) == (200, "last", "2")
    assert headers["fallback-reason"] == "overloaded, model_unavailable"
    live.inference.dead = {"main", "last"}
    assert ask(live, stream=stream)[0] == 503


def test_the_clients_own_mistake_is_not_passed_on(live: Live) -> None:
    make_route(live)
    before = len(live.inference.asked)
    assert ask(live, max_tokens=0)[0] == 400
    assert len(live.inference.asked) == before


def test_routes_are_checked_and_replaced(live: Live) -> None:
    live.deploy("main")
    live.deploy("spare")

    def refusal(**body: object) -> tuple[int, str]:
        whole = {"name": "best", "targets": [{"deployment": "main"}]} | body
        answer = live.http.post("/api/routes", json=whole)
        return answer.status_code, str(answer.json()["error"]["param"])

    assert refusal(targets=[{"deployment": "no"}]) == (422, "targets.0.deployment")
    assert refusal(fallbacks=["main", "no"]) == (422, "fallbacks.1.deployment")
    assert refusal(targets=[{"deployment": "main", "weight": 0}]) == (422, "targets")
    assert refusal(targets=[{"deployment": "main", "weight": -1}]) == (422, "targets.0.weight")
    assert refusal(name="main") == (409, "name")
    body = {"name": "best", "targets": [{"deployment": "main"}]}
    assert live.http.post("/api/routes", json=body).status_code == 201
    assert refusal() == (409, "name")
    taken = live.http.post("/api/deployments", json={"name": "best", "model": BUNDLED_MODEL})
    assert taken.status_code == 409
    rules = {"targets": [{"deployment": "spare", "weight": 2}], "fallbacks": ["main"]}
    replaced = live.http.put("/api/routes/best", json=rules).json()
    assert replaced["targets"] == [{"deployment": "spare", "weight": 2}]
    assert live.http.get("/api/routes/best").json() == replaced
    assert [route["name"] for route in live.http.get("/api/routes").json()["data"]] == ["best"]
    assert live.http.delete("/api/routes/best").status_code == 204
    assert live.http.get("/api/routes/best").status_code == 404


def test_one_request_one_image(live: Live) -> None:
    body = {"scenario": "Alice greets Bob.", "model": BUNDLED_MODEL}
    png = live.http.post("/api/diagrams", json=body, headers={"Accept": "image/png"})
    assert (png.headers["content-type"], png.content) == ("image/png", b"\x89PNG fake")
    assert png.headers["x-genplat-served-by"] == BUNDLED_MODEL
    diagram_id = png.headers["x-genplat-diagram-id"]
    svg = live.http.post("/api/diagrams", json=body, headers={"Accept": "image/*"})
    assert svg.headers["content-type"] == "image/svg+xml"
    shown = live.http.get(f"/api/diagrams/{diagram_id}").json()
    assert (shown["source"], shown["rendered"], shown["attempts"]) == (SOURCE, True, 1)
    source = live.http.get(f"/api/diagrams/{diagram_id}.puml")
    assert source.text == SOURCE and source.headers["content-type"].startswith("text/plain")
    assert live.http.get(f"/api/diagrams/{diagram_id}.html").status_code == 404
    assert len(live.http.get("/api/diagrams").json()["data"]) == 2


def test_a_diagram_as_json_is_made_once(live: Live) -> None:
    body = {"source": SOURCE, "format": "png"}
    headers = {"Idempotency-Key": "once"}
    first = live.http.post("/api/diagrams", json=body, headers=headers)
    assert first.status_code == 201
    assert first.json()["svg_url"] == f"/api/diagrams/{first.json()['id']}.svg"
    again = live.http.post("/api/diagrams", json=body, headers=headers)
    assert again.json() == first.json()
    assert len(live.inference.asked) == 1


def test_a_diagram_that_did_not_render(live: Live) -> None:
    live.inference.drawing = BROKEN
    body = {"scenario": "Nonsense.", "model": BUNDLED_MODEL}
    shown = live.http.post("/api/diagrams", json=body).json()
    assert (shown["rendered"], shown["svg_url"]) == (False, None)
    assert shown["error"] == {"line": 2, "message": "Syntax Error?"}
    image = live.http.post("/api/diagrams", json=body, headers={"Accept": "image/svg+xml"})
    assert image.status_code == 422
    assert "line 2: Syntax Error?" in image.json()["error"]["message"]
    assert live.http.get(f"/api/diagrams/{shown['id']}.svg").status_code == 404
    assert live.http.get(f"/api/diagrams/{shown['id']}.puml").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"scenario": "x"},
        {"scenario": "x", "source": "y", "model": "z"},
        {"source": "x" * 50_001},
        {"source": "x", "max_attempts": 9},
        {"source": "x", "format": "html"},
        {"source": "x", "url": "http://127.0.0.1"},
    ],
)
def test_a_wrong_diagram_is_refused(live: Live, body: dict[str, object]) -> None:
    assert live.http.post("/api/diagrams", json=body).status_code == 422


def test_diagrams_of_others_do_not_exist(live: Live) -> None:
    made = live.http.post("/api/diagrams", json={"source": SOURCE}).json()
    _, secret = keys.create_key(database=live.services.database, owner="other", name="theirs")
    for path in (f"/api/diagrams/{made['id']}", made["svg_url"], made["png_url"]):
        theirs = live.http.get(path, headers={"Authorization": f"Bearer {secret}"})
        assert theirs.status_code == 404


def test_without_inference_the_answer_says_so(client: TestClient, storage: Storage) -> None:
    fake_prepared(storage, BUNDLED_MODEL)
    for stream in (False, True):
        body = CHAT | {"model": BUNDLED_MODEL, "stream": stream}
        answer = client.post("/v1/chat/completions", json=body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["error"]["code"] == "model_unavailable"
