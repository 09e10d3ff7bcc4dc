"""A service LLM fails in every way there is, and the client of its route sees a whole answer."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.settings import GatewaySettings
from tests.gateway.api.live import CHAT, Live, chat, live_gateway, refusal
from tests.gateway.dying_upstream import KEY, DyingUpstream, dying_upstream
from tests.gateway.fake_inference import BROKEN
from tests.gateway.parts import until_true

MESSAGES = [{"role": "user", "content": "Tell me."}]
# Each cut is a request with its breaker closed; cuts at all bytes would take minutes.
CUTS = 40


@pytest.fixture
def upstream() -> Iterator[DyingUpstream]:
    with dying_upstream() as upstream:
        yield upstream


@pytest.fixture
def live(
    settings: GatewaySettings,
    upstream: DyingUpstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Live]:
    monkeypatch.setenv("SERVICE_KEY", KEY)
    file = tmp_path / "upstreams.yaml"
    file.write_text(
        f"upstreams: [{{name: service, base_url: '{upstream.url}', model: large,"
        " api_key_env: SERVICE_KEY, stall_seconds: 0.5, first_token_seconds: 1}]\n"
    )
    with live_gateway(settings.model_copy(update={"upstreams_file": file})) as live:
        live.deploy("small")
        live.inference.words = upstream.words
        body = {
            "name": "best",
            "targets": [{"upstream": "service"}],
            "fallbacks": ["small"],
        }
        assert live.http.post("/api/routes", json=body).status_code == 201
        yield live


def close_breaker(live: Live) -> None:
    live.services.breakers.of("upstream/service").visit().succeeded()


def streamed(live: Live) -> tuple[str, list[str | None], set[str]]:
    """Text, ends and ids that the unmodified client sees of a stream."""
    text, ends, ids = "", [], set()
    with live.openai as client:
        for chunk in client.chat.completions.create(model="best", messages=MESSAGES, stream=True):
            ids.add(chunk.id)
            for choice in chunk.choices:
                text += choice.delta.content or ""
                if choice.finish_reason:
                    ends.append(choice.finish_reason)
    return text, ends, ids


def test_a_healthy_upstream_answers(live: Live, upstream: DyingUpstream) -> None:
    answer = chat(live, "best")
    assert answer.headers["x-genplat-served-by"] == "upstream/service"
    assert answer.json()["choices"][0]["message"]["content"] == upstream.text
    assert answer.json()["model"] == "best"
    assert streamed(live) == (upstream.text, ["stop"], {"chatcmpl-up"})
    assert upstream.keys == [f"Bearer {KEY}"] * 2
    assert {asked["path"] for asked in upstream.asked} == {"/v1/chat/completions"}
    assert {asked["model"] for asked in upstream.asked} == {"large"}
    raw = chat(live, "best", stream=True).content
    assert raw == upstream.stream()


def test_a_stream_that_is_cut_anywhere_comes_out_whole(live: Live, upstream: DyingUpstream) -> None:
    whole = len(upstream.stream())
    cuts = {0, 1, whole - 1, *random.Random(7).sample(range(whole), CUTS)}
    for upstream.cut_at in sorted(cuts):
        close_breaker(live)
        text, ends, ids = streamed(live)
        assert (text, ends, len(ids)) == (upstream.text, ["stop"], 1), upstream.cut_at
        close_breaker(live)
        raw = chat(live, "best", stream=True).text
        assert raw.endswith("data: [DONE]\n\n") and '"error"' not in raw, upstream.cut_at
        assert raw.count("\ndata: [DONE]") == 1, upstream.cut_at


@pytest.mark.parametrize("how", ["silent", "silent at once", "error event", "no end mark"])
def test_other_ways_to_break_off(live: Live, upstream: DyingUpstream, how: str) -> None:
    if how.startswith("silent"):
        upstream.silent_at = 0 if how.endswith("once") else 700
    upstream.error_event = how == "error event"
    upstream.without_done = how == "no end mark"
    assert streamed(live)[:2] == (upstream.text, ["stop"])
    assert chat(live, "best", stream=True).text.count("\ndata: [DONE]") == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (429, "upstream_rate_limited"),
        (500, "upstream_500"),
        (503, "upstream_503"),
        (401, "upstream_401"),
        (302, "upstream_302"),
    ],
)
def test_a_refusal_goes_to_the_fallback(
    live: Live, upstream: DyingUpstream, status: int, reason: str, stream: bool
) -> None:
    upstream.status = status
    answer = chat(live, "best", stream=stream)
    assert answer.status_code == 200
    assert answer.headers["x-genplat-served-by"] == "small"
    assert answer.headers["x-genplat-fallback-reason"] == reason
    assert upstream.url not in str(answer.headers) + answer.text


def test_what_the_request_did_wrong_is_told(live: Live, upstream: DyingUpstream) -> None:
    upstream.status = 400
    answer = chat(live, "best")
    assert refusal(answer) == (400, "c")
    assert answer.json()["error"]["message"] == "service: no"


def test_an_upstream_that_fails_is_left_alone_and_probed(
    live: Live, upstream: DyingUpstream
) -> None:
    upstream.status = 500
    for _ in range(5):
        chat(live, "best")
    assert len(upstream.asked) == 3
    assert chat(live, "best").headers["x-genplat-fallback-reason"] == "circuit_open"
    (told,) = live.http.get("/api/upstreams").json()["data"]
    assert (told["state"], told["reason"]) == ("open", "upstream_500")
    assert upstream.url not in str(told) and KEY not in str(told)
    upstream.status = None
    live.services.breakers.of("upstream/service").open_until = 0
    assert chat(live, "best").headers["x-genplat-served-by"] == "upstream/service"
    (told,) = live.http.get("/api/upstreams").json()["data"]
    assert (told["state"], told["reason"]) == ("closed", None)


def test_streams_that_break_off_again_and_again_open_it_too(
    live: Live, upstream: DyingUpstream
) -> None:
    upstream.cut_at = 500
    for _ in range(4):
        streamed(live)
    assert len(upstream.asked) == 3


def test_an_upstream_says_when_to_come_back(live: Live, upstream: DyingUpstream) -> None:
    upstream.status, upstream.headers = 429, {"retry-after": "30"}
    for _ in range(2):
        assert chat(live, "best").status_code == 200
    assert len(upstream.asked) == 1


def test_without_its_key_it_is_not_asked(
    live: Live, upstream: DyingUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVICE_KEY")
    assert chat(live, "best").headers["x-genplat-fallback-reason"] == "upstream_without_key"
    assert upstream.asked == []
    (told,) = live.http.get("/api/upstreams").json()["data"]
    assert "SERVICE_KEY is not set" in told["problem"]


@pytest.mark.parametrize("fault", ["429", "500", "stall", "cut"])
def test_a_drill_shows_who_steps_in(live: Live, upstream: DyingUpstream, fault: str) -> None:
    drill = live.http.post("/api/routes/best/drill", json={"fault": fault, "seconds": 600})
    assert drill.json()["drill"]["fault"] == fault
    assert streamed(live)[:2] == (upstream.text, ["stop"])
    answer = chat(live, "best")
    assert answer.headers["x-genplat-served-by"] == "small"
    assert answer.headers["x-genplat-fallback-reason"] == f"drill_{fault}"
    # Other routes over the same target do not suffer.
    assert live.services.breakers.of("upstream/service").state == "closed"
    assert live.http.delete("/api/routes/best/drill").json()["drill"] is None
    assert chat(live, "best").headers["x-genplat-served-by"] == "upstream/service"


def test_a_drill_ends_by_itself_and_is_the_owners(live: Live) -> None:
    wrong = live.http.post("/api/routes/best/drill", json={"fault": "fire"})
    assert wrong.status_code == 422 and "fault" in wrong.text
    assert live.http.post("/api/routes/none/drill", json={"fault": "cut"}).status_code == 404
    live.http.post("/api/routes/best/drill", json={"fault": "500", "seconds": 1})
    with httpx.Client() as stranger:
        url = f"{live.url}/api/routes/best/drill"
        assert stranger.post(url, json={"fault": "cut"}).status_code == 401
    until_true(lambda: live.http.get("/api/routes/best").json()["drill"] is None)


def test_a_route_knows_declared_upstreams_alone(live: Live) -> None:
    def make(**rules: object) -> httpx.Response:
        return live.http.post("/api/routes", json={"name": "other"} | rules)

    answer = make(targets=[{"upstream": "elsewhere"}])
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "targets.0.upstream"
    for wrong in ({"upstream": "service", "deployment": "small"}, {"weight": 1}):
        assert make(targets=[wrong]).status_code == 422
    made = make(targets=[{"deployment": "small"}], fallbacks=["upstream/service"])
    assert made.status_code == 201
    assert made.json()["fallbacks"] == [{"upstream": "service"}]
    # It cannot go on with what another began, but it can be asked first.
    live.inference.dead = {"small"}
    assert chat(live, "other").headers["x-genplat-served-by"] == "upstream/service"


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_service_llm_writes_is_drawn_here(
    live: Live, upstream: DyingUpstream, stream: bool
) -> None:
    upstream.words = ["Here it is:\n", "@startuml\nA -> B\n", "@enduml\n", "Good?"]
    body = CHAT | {"model": "best", "diagram": {"format": "svg"}, "stream": stream}
    answer = live.http.post("/v1/chat/completions", json=body)
    assert answer.headers["x-genplat-served-by"] == "upstream/service"
    if stream:
        first, done = answer.text.strip().split("\n\n")
        assert done == "data: [DONE]"
        (choice,) = json.loads(first.removeprefix("data: "))["choices"]
        message = choice["delta"]
    else:
        (choice,) = answer.json()["choices"]
        message = choice["message"]
    assert choice["finish_reason"] == "stop"
    assert message["diagram"]["rendered"] is True
    assert live.http.get(message["diagram"]["svg_url"]).text.startswith("<svg")
    # It was told what to write, and nothing that it would not know.
    (asked,) = upstream.asked
    assert asked["messages"][0]["role"] == "system"
    assert "@startuml" in asked["messages"][0]["content"]
    assert "diagram" not in asked
    (logged,) = live.http.get("/api/requests").json()["data"]
    assert (logged["kind"], logged["rendered"]) == ("diagram", True)


def test_a_service_llm_is_told_why_its_diagram_does_not_render(
    live: Live, upstream: DyingUpstream
) -> None:
    live.inference.drawing = BROKEN
    upstream.words = ["@startuml\nA ->\n@enduml"]
    spec = {"scenario": "Alice greets Bob.", "model": "best", "max_attempts": 2}
    drawn = live.http.post("/api/diagrams", json=spec)
    assert drawn.headers["x-genplat-served-by"] == "upstream/service"
    assert (drawn.json()["rendered"], drawn.json()["attempts"]) == (False, 2)
    first, second = upstream.asked
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert BROKEN["error"]["message"] in second["messages"][-1]["content"]
    assert second["temperature"] > 0


def test_where_a_service_llm_cannot_draw_another_does(live: Live, upstream: DyingUpstream) -> None:
    upstream.status = 500
    body = CHAT | {"model": "best", "diagram": {"format": "svg"}, "stream": True}
    answer = live.http.post("/v1/chat/completions", json=body)
    assert answer.headers["x-genplat-served-by"] == "small"
    assert '"rendered":true' in answer.text.replace(" ", "")


def test_a_user_stays_with_a_target_and_a_conversation_too(live: Live) -> None:
    body = {
        "name": "sticky",
        "targets": [{"upstream": "service"}, {"deployment": "small"}],
        "sticky": "user",
    }
    assert live.http.post("/api/routes", json=body).json()["sticky"] == "user"

    def served(**changes: object) -> str:
        return chat(live, "sticky", **changes).headers["x-genplat-served-by"]

    users = {user: served(user=user) for user in ("ann", "bob", "cid", "dan", "eve", "fay")}
    assert {user: served(user=user) for user in users} == users
    assert len(set(users.values())) == 2
    del body["name"]
    live.http.put("/api/routes/sticky", json=body | {"sticky": "conversation"})
    first = served(user="ann")
    turns = [*CHAT["messages"], {"role": "assistant", "content": "a"}]
    turns.append({"role": "user", "content": "More."})
    assert served(user="bob", messages=turns) == first


@pytest.mark.parametrize("stream", [False, True])
def test_a_short_trouble_is_over_with_the_second_try(
    live: Live, upstream: DyingUpstream, stream: bool
) -> None:
    upstream.status, upstream.times = 503, 1
    answer = chat(live, "best", stream=stream)
    assert answer.headers["x-genplat-served-by"] == "upstream/service"
    assert answer.headers["x-genplat-retries"] == "1"
    assert answer.headers["x-genplat-fallbacks"] == "0"
    assert len(upstream.asked) == 2


def test_retries_have_a_budget(live: Live, upstream: DyingUpstream) -> None:
    upstream.status = 500
    for _ in range(30):
        assert chat(live, "best").headers["x-genplat-served-by"] == "small"
        close_breaker(live)
    # Five failures use half of the budget up; afterwards each request asks once.
    assert 30 < len(upstream.asked) <= 35


def test_a_429_is_waited_for_where_there_is_nobody_else(
    live: Live, upstream: DyingUpstream
) -> None:
    body = {"name": "alone", "targets": [{"upstream": "service"}]}
    assert live.http.post("/api/routes", json=body).status_code == 201
    upstream.status, upstream.times, upstream.headers = 429, 1, {"Retry-After": "1"}
    began = time.monotonic()
    assert chat(live, "alone").headers["x-genplat-retries"] == "1"
    assert 1 <= time.monotonic() - began < 10


def test_who_says_nothing_for_too_long_is_left(live: Live, upstream: DyingUpstream) -> None:
    rules = {
        "targets": [{"upstream": "service", "timeout_seconds": 0.2}],
        "fallbacks": [{"deployment": "small", "timeout_seconds": 0.001}],
    }
    assert live.http.put("/api/routes/best", json=rules).json()["targets"] == [
        {"upstream": "service", "weight": 1.0, "timeout_seconds": 0.2}
    ]
    upstream.slow = 1.0
    answer = chat(live, "best")
    # The last one has as long as it takes.
    assert answer.headers["x-genplat-served-by"] == "small"
    assert answer.headers["x-genplat-fallback-reason"] == "target_timeout"


def test_the_other_targets_are_better_than_nobody(live: Live, upstream: DyingUpstream) -> None:
    rules = {"targets": [{"upstream": "service", "weight": 999_999}, {"deployment": "small"}]}
    assert live.http.put("/api/routes/best", json=rules).status_code == 200
    upstream.status = 500
    assert chat(live, "best").headers["x-genplat-served-by"] == "small"


def test_the_fastest_is_asked_more(live: Live, upstream: DyingUpstream) -> None:
    targets = [{"upstream": "service"}, {"deployment": "small"}]
    both = {"targets": targets, "balance": "fastest", "sticky": "user"}
    refused = live.http.put("/api/routes/best", json=both)
    assert refused.status_code == 422
    assert "balance" in refused.json()["error"]["message"]
    rules = {"targets": targets, "balance": "fastest"}
    assert live.http.put("/api/routes/best", json=rules).json()["balance"] == "fastest"
    upstream.slow = 0.3
    served = [chat(live, "best").headers["x-genplat-served-by"] for _ in range(12)]
    # Of two targets both are drawn: the slow one is asked until its first answer came.
    assert served.count("upstream/service") <= 2
