"""The service over HTTP: the unmodified openai client, the control API, errors, leaving clients."""

import concurrent.futures
import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from inference_service.engine.batch import Batch
from shared.storage import Storage
from tests.inference_service.serving import HEADERS, TOKEN, running_server
from tests.trainer_service.tiny import TINY_MODEL

GOOD = "@startuml\nA -> B\n@enduml"


def saying(text: str) -> Any:
    return [{"role": "user", "content": text}]


MESSAGES = saying("Hello")


@pytest.fixture(scope="module")
def address(storage: Storage) -> Iterator[str]:
    with running_server(storage) as address:
        yield address


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, headers=HEADERS, timeout=30) as client:
        for name, run_id in (("org/base", None), ("tuned", "run_a")):
            ref = {"base_model": TINY_MODEL, "run_id": run_id}
            assert client.put(f"/models/{name}", json=ref).json()["state"] == "ready"
        yield client


@pytest.fixture
def client(address: str, http: httpx.Client) -> Iterator[openai.OpenAI]:
    """The unmodified client, with models loaded."""
    with openai.OpenAI(base_url=f"{address}/v1", api_key=TOKEN, max_retries=0) as client:
        yield client


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def metric(http: httpx.Client, name: str) -> float:
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_the_openai_client_chats(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="org/base", messages=MESSAGES, max_tokens=9, extra_headers={}
    )
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", "org/base")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 9
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 9


def test_the_openai_client_streams_the_same_text(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="tuned", messages=MESSAGES, max_tokens=30)
    chunks = list(
        client.chat.completions.create(
            model="tuned",
            messages=MESSAGES,
            max_completion_tokens=30,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage == whole.usage
    assert chunks[-1].choices == []


def test_the_openai_client_completes(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="org/base", prompt="Once upon", max_tokens=12)
    parts = client.completions.create(
        model="org/base", prompt="Once upon", max_tokens=12, stream=True
    )
    assert whole.object == "text_completion"
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text


def test_adapters_answer_differently_and_all_at_once(client: openai.OpenAI) -> None:
    def ask(model: str) -> str:
        answer = client.chat.completions.create(
            model=model, messages=saying("Draw A, B and C, and tell me why."), max_tokens=20
        )
        return answer.choices[0].message.content or ""

    alone = {model: ask(model) for model in ("org/base", "tuned")}
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        together = list(pool.map(ask, ["org/base", "tuned"] * 6))
    assert alone["org/base"] != alone["tuned"]
    assert together == [alone["org/base"], alone["tuned"]] * 6


def test_the_name_that_was_asked_for_comes_back(http: httpx.Client) -> None:
    body = {"model": "tuned", "messages": MESSAGES, "max_tokens": 2}
    headers = {"x-genplat-served-as": "ft:my-model"}
    answer = http.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.json()["model"] == "ft:my-model"
    stream = http.post("/v1/chat/completions", json=body | {"stream": True}, headers=headers)
    assert {event["model"] for event in events_of(stream)} == {"ft:my-model"}
    assert stream.headers["x-accel-buffering"] == "no"
    assert stream.headers["content-type"].startswith("text/event-stream")


def test_the_control_api_loads_lists_and_unloads(http: httpx.Client) -> None:
    ref = {"base_model": TINY_MODEL, "run_id": "run_b"}
    loaded = http.put("/models/some/deep/name", json=ref)
    assert (loaded.status_code, loaded.json()["precision"]) == (200, "fp32")
    listed = http.get("/models").json()
    assert listed["capacity"] > 1
    names = [model["name"] for model in listed["data"]]
    assert "some/deep/name" in names
    assert http.delete("/models/some/deep/name").status_code == 204
    assert http.delete("/models/some/deep/name").status_code == 404
    missing = http.put("/models/x", json={"base_model": "nobody/nothing"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_prepared")
    bad = http.put("/models/x", json={"base_model": TINY_MODEL, "run_id": "run_none"})
    assert (bad.status_code, bad.json()["error"]["code"]) == (422, "bad_adapter")
    assert http.delete("/models/x").status_code == 204


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"model": "unknown"}, 404, "model_not_loaded", "model"),
        ({"messages": []}, 400, "invalid_request", "messages"),
        ({"messages": saying("x" * 600)}, 400, "context_length_exceeded", "messages"),
        ({"messages": saying("x" * 2_000_000)}, 400, "context_length_exceeded", "messages"),
        ({"max_tokens": 0}, 400, "invalid_request", "max_tokens"),
        ({"max_tokens": 1e9}, 400, "invalid_request", "max_tokens"),
        ({"max_tokens": "5"}, 400, "invalid_request", "max_tokens"),
        ({"n": 2}, 400, "invalid_request", "n"),
        ({"temperature": 3}, 400, "invalid_request", "temperature"),
        ({"chat_template": "{{ 7 }}"}, 400, "invalid_request", "chat_template"),
        ({"diagram": {"format": "gif"}}, 400, "invalid_request", "diagram.format"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_wrong_requests_name_the_field(
    http: httpx.Client, change: dict[str, Any], status: int, code: str, param: str, stream: bool
) -> None:
    body = {"model": "tuned", "messages": MESSAGES, "max_tokens": 3, "stream": stream} | change
    answer = http.post("/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("raw", [b"", b"{", b"[" * 10_000, b'"text"', b"\xff"])
def test_what_is_no_json_is_refused(http: httpx.Client, raw: bytes) -> None:
    answer = http.post(
        "/v1/chat/completions", content=raw, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_an_answer_goes_on_behind_its_beginning(http: httpx.Client) -> None:
    def ask(*turns: tuple[str, str], **fields: Any) -> httpx.Response:
        messages = [{"role": role, "content": text} for role, text in turns]
        body = {"model": "org/base", "messages": messages, "max_tokens": 8, "temperature": 0}
        return http.post("/v1/chat/completions", json=body | fields)

    asked, begun = ("user", "Hello"), ("assistant", "abc")
    answer = ask(asked, begun, continue_final_message=True).json()
    closed = ask(asked, begun).json()
    # The beginning is read as the answer's own, without the marks of a turn that ended.
    assert answer["usage"]["prompt_tokens"] < closed["usage"]["prompt_tokens"]
    for wrong in (ask(asked, continue_final_message=True), ask(begun, continue_final_message=True)):
        assert wrong.status_code in (400, 422) and "continue_final_message" in wrong.text


def test_a_likelihood_counts_the_token_that_ends_an_answer(http: httpx.Client) -> None:
    def ask(answer: str, model: str = "org/base") -> httpx.Response:
        body = {"model": model, "messages": MESSAGES, "answer": answer}
        return http.post("/likelihood", json=body)

    empty, short = ask("").json(), ask("Hi").json()
    assert empty["tokens"] == 1 and short["tokens"] == 3
    assert short["log_likelihood"] < 0
    assert ask("Hi").json() == short != ask("Hi", "tuned").json()
    assert ask("long " * 1000).json()["error"]["code"] == "context_length_exceeded"
    assert ask("Hi", "nobody").status_code == 404


def test_half_a_surrogate_pair_is_refused(http: httpx.Client) -> None:
    body = '{"model": "tuned", "messages": [{"role": "user", "content": "\\ud800"}]}'
    answer = http.post(
        "/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer wrong", TOKEN, "Bearer é"])
def test_every_route_but_the_health_checks_wants_the_token(address: str, token: str) -> None:
    headers = [(b"Authorization", token.encode())]
    for method, path in (
        ("GET", "/metrics"),
        ("GET", "/models"),
        ("PUT", "/models/x"),
        ("DELETE", "/models/x"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/diagrams"),
    ):
        assert httpx.request(method, address + path, headers=headers).status_code == 401
    assert httpx.get(f"{address}/livez").status_code == 200
    assert httpx.get(f"{address}/readyz").status_code == 200
    assert httpx.get(f"{address}/nothing").json()["error"]["code"] == "not_found"


def wait_for_metric(http: httpx.Client, name: str, value: float) -> None:
    deadline = time.monotonic() + 20
    while (now := metric(http, name)) != value:
        assert time.monotonic() < deadline, f"{name} is {now}, not {value}"
        time.sleep(0.01)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(
    address: str, http: httpx.Client, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    step = Batch.step

    def slow_step(batch: Batch) -> None:
        time.sleep(0.02)
        step(batch)

    # The answer would take eight seconds and more: whoever leaves does so in its middle.
    monkeypatch.setattr(Batch, "step", slow_step)
    cancelled = 'genplat_inference_requests_total{kind="chat",outcome="cancelled"}'
    before = metric(http, cancelled)
    body = {"model": "org/base", "messages": MESSAGES, "max_tokens": 400, "stream": stream}
    client = HTTPConnection(urlsplit(address).netloc)
    headers = HEADERS | {"Content-Type": "application/json"}
    client.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    wait_for_metric(http, "genplat_inference_running", 1)
    client.close()
    wait_for_metric(http, cancelled, before + 1)
    wait_for_metric(http, "genplat_inference_running", 0)


def test_a_source_becomes_both_pictures(http: httpx.Client) -> None:
    answer = http.post("/diagrams", json={"source": GOOD}).json()
    assert (answer["source"], answer["rendered"], answer["attempts"]) == (GOOD, True, 0)
    assert answer["svg"].startswith("<svg")
    assert answer["png"].startswith("iVBOR")
    wrong = http.post("/diagrams", json={"source": "@startuml\nwrong ((\n@enduml"}).json()
    assert (wrong["rendered"], wrong["error"]["line"]) == (False, 2)


@pytest.mark.parametrize(
    "body", [{}, {"source": GOOD, "scenario": "x"}, {"scenario": "A calls B"}, {"sources": GOOD}]
)
def test_a_diagram_request_must_say_what_it_wants(http: httpx.Client, body: dict[str, Any]) -> None:
    assert http.post("/diagrams", json=body).status_code == 400


def test_a_model_that_cannot_draw_is_shown_with_its_attempts(http: httpx.Client) -> None:
    answer = http.post(
        "/diagrams",
        json={"model": "tuned", "scenario": "A calls B", "max_attempts": 2, "max_tokens": 20},
    ).json()
    assert (answer["rendered"], answer["attempts"]) == (False, 2)
    assert "no complete" in answer["error"]["message"]


def test_diagram_mode_streams_drafts_and_one_final_source(http: httpx.Client) -> None:
    body = {
        "model": "tuned",
        "messages": MESSAGES,
        "max_tokens": 20,
        "diagram": {"max_attempts": 2},
        "stream_options": {"include_usage": True},
    }
    whole = http.post("/v1/chat/completions", json=body).json()
    message = whole["choices"][0]["message"]
    events = events_of(http.post("/v1/chat/completions", json=body | {"stream": True}))
    deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
    content = "".join(delta.get("content", "") for delta in deltas)
    assert content == message["content"] == message["diagram"]["source"]
    assert deltas[-1]["diagram"] == message["diagram"]
    drafts = [delta["draft"] for delta in deltas if "draft" in delta]
    assert {draft["attempt"] for draft in drafts} == {1, 2}
    last = "".join(draft["text"] for draft in drafts if draft["attempt"] == 2)
    assert last.strip() == content
    assert events[-1]["usage"] == whole["usage"]
    assert events[-2]["choices"][0]["finish_reason"] == "length"


def test_metrics_count_what_happened(http: httpx.Client) -> None:
    tokens = metric(http, 'genplat_inference_tokens_total{direction="completion"}')
    body = {"model": "tuned", "messages": MESSAGES, "max_tokens": 11}
    http.post("/v1/chat/completions", json=body)
    assert metric(http, 'genplat_inference_tokens_total{direction="completion"}') == tokens + 11
    assert metric(http, "genplat_inference_waiting") == 0


def test_a_full_queue_says_when_to_come_back(storage: Storage) -> None:
    with running_server(storage, max_rows=1, max_waiting=0) as address:
        body = {"model": "m", "messages": MESSAGES, "max_tokens": 400, "stream": True}
        with httpx.Client(base_url=address, headers=HEADERS, timeout=30) as http:
            http.put("/models/m", json={"base_model": TINY_MODEL})
            with http.stream("POST", "/v1/chat/completions", json=body) as running:
                lines = running.iter_lines()
                while '"content": ""' in (line := next(lines)) or not line:
                    pass
                refused = http.post("/v1/chat/completions", json=body)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert refused.json()["error"]["code"] == "queue_full"
