"""Deployments, routes and diagrams over HTTP, with models that come and go."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from gateway import deployments, keys, serving
from gateway.settings import GatewaySettings
from gateway.tables import LibraryModel
from shared.model_library import BUNDLED_MODEL
from shared.storage import Storage
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.fake_inference import BROKEN, SOURCE
from tests.gateway.parts import LONG, fake_prepared, until_true
from tests.valkey import Valkey

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
        "checkpoint": None,
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


def chat(live: Live, model: str, **changes: object) -> httpx.Response:
    return live.http.post("/v1/chat/completions", json=CHAT | {"model": model} | changes)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["error"]["code"])


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


def test_an_unprepared_base_is_prepared_first(live: Live) -> None:
    other = "HuggingFaceTB/SmolLM2-360M-Instruct"
    live.inference.unprepared = {other}
    live.http.post("/api/deployments", json={"name": "a", "model": other})
    until_true(lambda: library_state(live, other) == "preparing")
    assert live.state("a") == "loading"
    fake_prepared(live.services.storage, other)
    live.inference.unprepared = set()
    until_true(lambda: live.state("a") == "ready")


def library_state(live: Live, model: str) -> str:
    return str(live.http.get(f"/api/library/{model}").json()["state"])


def add_unprepared(live: Live) -> str:
    """A base model whose weights are on disk and were never converted."""
    folder = live.services.settings.import_root / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "model.safetensors").write_bytes(b"weights")
    answer = live.http.post("/api/library", json={"id": "me/mine", "folder": "mine"})
    assert (answer.status_code, answer.json()["state"]) == (201, "available")
    live.inference.unprepared = {"me/mine"}
    return "me/mine"


def preparing_jobs(valkey: Valkey) -> int:
    with valkey.client() as redis:
        return len(redis.keys("arq:job:prepare:*"))


@pytest.mark.parametrize("stream", [False, True])
def test_the_first_request_waits_until_its_model_is_prepared(
    live: Live, valkey: Valkey, stream: bool
) -> None:
    model = add_unprepared(live)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(chat, live, model, stream=stream)
        until_true(lambda: library_state(live, model) == "preparing")
        assert not asking.done() and live.inference.loads[f"base/{model}"] == 1
        live.inference.unprepared = set()
        fake_prepared(live.services.storage, model)
        answer = asking.result(LONG)
    assert (answer.status_code, answer.headers["x-genplat-served-by"]) == (200, model)
    assert "Hello" in answer.text
    assert live.inference.loads[f"base/{model}"] == 2
    assert preparing_jobs(valkey) == 1


def test_a_request_waits_for_a_preparation_but_not_for_ever(
    live: Live, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "PREPARE_SECONDS", 0.6)
    model = add_unprepared(live)
    for _ in range(2):
        answer = chat(live, model)
        assert refusal(answer) == (503, "model_unavailable")
        assert answer.headers["retry-after"] == "30"
        assert "still being prepared" in answer.json()["error"]["message"]
    assert (library_state(live, model), preparing_jobs(valkey)) == ("preparing", 1)


def test_a_request_for_a_model_whose_preparation_failed_says_why(
    live: Live, valkey: Valkey
) -> None:
    model = add_unprepared(live)
    with live.services.database.write() as session:
        session.get_one(LibraryModel, model).error = "Its files are damaged."
    answer = chat(live, model)
    assert refusal(answer) == (503, "model_unavailable")
    message = answer.json()["error"]["message"]
    assert "Its files are damaged." in message and f"/api/library/{model}/prepare" in message
    # Nobody but the user starts it over.
    assert (library_state(live, model), preparing_jobs(valkey)) == ("failed", 0)


def test_nobody_waits_for_a_preparation_where_another_can_answer(live: Live) -> None:
    live.deploy("spare")
    model = add_unprepared(live)
    live.http.post("/api/deployments", json={"name": "main", "model": model})
    body = {"name": "best", "targets": [{"deployment": "main"}], "fallbacks": ["spare"]}
    assert live.http.post("/api/routes", json=body).status_code == 201
    answer = chat(live, "best")
    assert (answer.status_code, answer.headers["x-genplat-served-by"]) == (200, "spare")
    assert answer.headers["x-genplat-fallback-reason"] == "model_not_loaded"


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
    answer = chat(live, "best", **changes)
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
        "fallback-reason": "queue_full",
    }
    live.http.delete("/api/deployments/spare")
    status, headers = ask(live, stream=stream)
    assert (status, headers["served-by"], headers["fallbacks"]) == (200, "last", "2")
    assert headers["fallback-reason"] == "queue_full, model_unavailable"
    live.inference.dead = {"main", "last"}
    assert ask(live, stream=stream)[0] == 503


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("dies_with", "reason"),
    [
        ((429, "rate_limit_exceeded"), "rate_limit_exceeded"),
        ((500, "internal_error"), "internal_error"),
        ((504, "model_timeout"), "model_timeout"),
    ],
)
def test_every_trouble_of_a_target_moves_on(
    live: Live, dies_with: tuple[int, str], reason: str, stream: bool
) -> None:
    make_route(live)
    live.inference.dead, live.inference.dies_with = {"main", "spare"}, dies_with
    status, headers = ask(live, stream=stream)
    assert (status, headers["served-by"], headers["fallbacks"]) == (200, "last", "2")
    assert headers["fallback-reason"] == f"{reason}, {reason}"


@pytest.mark.parametrize(
    ("how", "reason", "status"),
    [
        ("ends_at_once", "upstream_failed", 502),
        ("breaks_at_once", "model_unavailable", 503),
    ],
)
def test_a_stream_without_a_first_byte_moves_on(
    live: Live, how: str, reason: str, status: int
) -> None:
    make_route(live)
    setattr(live.inference, how, {"main"})
    answer = chat(live, "best", stream=True)
    assert (answer.status_code, answer.headers["x-genplat-served-by"]) == (200, "spare")
    assert answer.headers["x-genplat-fallback-reason"] == reason
    assert "Hello" in answer.text and answer.text.endswith("data: [DONE]\n\n")
    assert [asked["model"] for asked in live.inference.asked] == ["main", "spare"]
    # Where there is nobody left to ask, the client is told by a status.
    setattr(live.inference, how, {"main", "spare", "last"})
    assert refusal(chat(live, "best", stream=True)) == (status, reason)


def test_a_stream_that_has_begun_goes_to_nobody_else(live: Live) -> None:
    make_route(live)
    live.inference.breaks_off = {"main"}
    answer = chat(live, "best", stream=True)
    assert answer.headers["x-genplat-served-by"] == "main"
    assert "Hello" in answer.text and '"code":"model_unavailable"' in answer.text
    assert "[DONE]" not in answer.text
    assert [asked["model"] for asked in live.inference.asked] == ["main"]


def test_the_clients_own_mistake_is_not_passed_on(live: Live) -> None:
    make_route(live)
    before = len(live.inference.asked)
    assert ask(live, max_tokens=0)[0] == 400
    assert len(live.inference.asked) == before


def test_routes_are_checked_and_replaced(live: Live) -> None:
    live.deploy("main")
    live.deploy("spare")

    def wrong(**body: object) -> tuple[int, str]:
        whole = {"name": "best", "targets": [{"deployment": "main"}]} | body
        answer = live.http.post("/api/routes", json=whole)
        return answer.status_code, str(answer.json()["error"]["param"])

    assert wrong(targets=[{"deployment": "no"}]) == (422, "targets.0.deployment")
    assert wrong(fallbacks=["main", "no"]) == (422, "fallbacks.1.deployment")
    assert wrong(targets=[{"deployment": "main", "weight": 0}]) == (422, "targets")
    assert wrong(targets=[{"deployment": "main", "weight": -1}]) == (422, "targets.0.weight")
    assert wrong(name="main") == (409, "name")
    body = {"name": "best", "targets": [{"deployment": "main"}]}
    assert live.http.post("/api/routes", json=body).status_code == 201
    assert wrong() == (409, "name")
    taken = live.http.post("/api/deployments", json={"name": "best", "model": BUNDLED_MODEL})
    assert taken.status_code == 409
    rules = {"targets": [{"deployment": "spare", "weight": 2}], "fallbacks": ["main"]}
    replaced = live.http.put("/api/routes/best", json=rules).json()
    assert replaced["targets"] == [{"deployment": "spare", "weight": 2}]
    assert live.http.get("/api/routes/best").json() == replaced
    assert [route["name"] for route in live.http.get("/api/routes").json()["data"]] == ["best"]
    assert live.http.delete("/api/routes/best").status_code == 204
    assert live.http.get("/api/routes/best").status_code == 404


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
