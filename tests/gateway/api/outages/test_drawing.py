"""Service LLMs write diagrams, which are drawn here."""

import json

import pytest

from tests.gateway.api.live import CHAT, Live
from tests.gateway.dying_upstream import DyingUpstream
from tests.gateway.fake_inference import BROKEN


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
