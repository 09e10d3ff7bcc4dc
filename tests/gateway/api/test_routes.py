"""Routes over HTTP: who answers where a target fails, and what rules are refused."""

import json
from collections.abc import Iterator

import pytest

from gateway.request_log.entries import HEADER
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, chat, live_gateway, refusal


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


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
        if name.startswith("x-genplat-") and name != HEADER
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
        ("ends_at_once", "stream_cut", 502),
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


def test_a_stream_that_has_begun_is_gone_on_with(live: Live) -> None:
    make_route(live)
    live.inference.breaks_off = {"main", "spare"}
    answer = chat(live, "best", stream=True, max_tokens=20)
    assert answer.headers["x-genplat-served-by"] == "main"
    assert said(answer.text) == "Hello there!"
    assert answer.text.count("[DONE]") == 1 and '"error"' not in answer.text
    # The second broke off too, behind all that was left.
    assert [asked["model"] for asked in live.inference.asked] == ["main", "spare", "last"]
    taken_over = live.inference.asked[1]
    assert taken_over["messages"][-1] == {"role": "assistant", "content": "Hello"}
    assert taken_over["continue_final_message"] and taken_over["max_tokens"] == 19
    live.inference.breaks_off = {"main", "spare", "last"}
    live.inference.words = ["Hello", " there", ", you", "!"]
    answer = chat(live, "main", stream=True)
    assert '"code":"model_unavailable"' in answer.text and "[DONE]" not in answer.text


def said(stream: str) -> str:
    """The text of a stream's events."""
    events = [json.loads(line[5:]) for line in stream.splitlines() if line.startswith("data: {")]
    choices = [choice for event in events for choice in event.get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


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
