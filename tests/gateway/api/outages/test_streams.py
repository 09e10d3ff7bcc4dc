"""A service LLM's stream breaks off in every way there is, and the client sees a whole answer."""

import asyncio
import json
import random
import re
import socket
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI

from tests.gateway.api.live import CHAT, Live, chat
from tests.gateway.api.outages.route import MESSAGES, close_breaker, heard
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.dying_upstream import HEAD, KEY, WORDS, DyingUpstream
from tests.gateway.parts import until_true

# The small model says the same in other letters, so that one sees who said what.
OTHER_WORDS = [word.swapcase() for word in WORDS]
GOOD = '{"id": "chatcmpl-up", "choices": [{"index": 0, "delta": {"content": "no"}}]}'
JUNK = [
    b"\xff\xfe\n\n",
    b"data: {\n\n",
    b"data: \xf0\x9f\n\n",
    b"data: {}\n\n",
    b"data: null\n\n",
    b'data: {"error": "overloaded"}\n\n',
    b'data: {"error": {"message": "overloaded"}, "choices": []}\n\n',
    b'event: error\ndata: {"message": "overloaded"}\n\n',
    b'data: {"object": "error", "message": "overloaded"}\n\n',
    b'data: {"choices": [{"index": 0, "delta": null, "text": null}]}\n\n',
    b"id: 7\n\n: a comment\n\n",
    b"<html>\n\n<p>502</p>\n\n",
    f"data: {GOOD}\n".encode(),
]


def begun_by_one_and_ended_by_another(text: str) -> bool:
    one, other = "".join(WORDS), "".join(OTHER_WORDS)
    return any(text == one[:place] + other[place:] for place in range(len(one) + 1))


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from(["chat", "text"]),
    usage=st.booleans(),
    place=st.floats(0, 1),
    how=st.sampled_from(["closes", "resets", *JUNK]),
)
@example(kind="chat", usage=True, place=1.0, how="closes")
@example(kind="text", usage=False, place=0.0, how="resets")
def test_however_it_breaks_off_a_client_reads_one_whole_answer(
    live: Live, upstream: DyingUpstream, kind: str, usage: bool, place: float, how: str | bytes
) -> None:
    live.inference.words = OTHER_WORDS
    asked = {"prompt": ""} if kind == "text" else {"messages": []}
    whole = len(upstream.stream(asked | {"stream_options": {"include_usage": usage}}))
    upstream.cut_at, upstream.resets = round(place * whole), how == "resets"
    upstream.junk = how if isinstance(how, bytes) else b""
    close_breaker(live)
    found = heard(live, kind, usage=usage)
    assert begun_by_one_and_ended_by_another(found.text)
    assert found.ends == ["stop"] and len(found.heads) == 1
    assert found.roles == (kind == "chat") or found.text == "".join(OTHER_WORDS)
    assert found.usages == usage
    assert found.raw.endswith(b"\n\ndata: [DONE]\n\n")
    assert len(re.findall(rb"^data: ?\[DONE\]", found.raw, re.MULTILINE)) == 1


def test_a_healthy_upstream_answers(live: Live, upstream: DyingUpstream) -> None:
    answer = chat(live, "best")
    assert answer.headers["x-genplat-served-by"] == "upstream/service"
    assert answer.json()["choices"][0]["message"]["content"] == upstream.text
    assert answer.json()["model"] == "best"
    found = heard(live)
    assert (found.text, found.ends, found.roles) == (upstream.text, ["stop"], 1)
    assert upstream.keys == [f"Bearer {KEY}"] * 2
    assert {asked["path"] for asked in upstream.asked} == {"/v1/chat/completions"}
    assert {asked["model"] for asked in upstream.asked} == {"large"}
    assert found.raw == upstream.stream()


@pytest.mark.parametrize("how", ["silent", "silent at once", "error event", "no end mark"])
def test_other_ways_to_break_off(live: Live, upstream: DyingUpstream, how: str) -> None:
    if how.startswith("silent"):
        upstream.silent_at = 0 if how.endswith("once") else 700
    upstream.error_event = how == "error event"
    upstream.without_done = how == "no end mark"
    found = heard(live)
    assert (found.text, found.ends) == (upstream.text, ["stop"])
    assert found.raw.count(b"\ndata: [DONE]") == 1


def test_comments_do_not_keep_a_silent_stream_up(live: Live, upstream: DyingUpstream) -> None:
    upstream.silent_at, upstream.comments = upstream.stream().index(b"\n\n", 700) + 2, True
    found = heard(live)
    assert (found.text, found.ends) == (upstream.text, ["stop"])
    (row,) = live.http.get("/api/requests").json()["data"]
    assert (row["continued_by"], row["fallback_reason"]) == ("small", "upstream_timeout")


def test_a_targets_own_patience_holds_in_the_middle_too(
    live: Live, upstream: DyingUpstream
) -> None:
    rules = {
        "targets": [{"upstream": "service", "timeout_seconds": 0.2}],
        "fallbacks": ["small"],
    }
    assert live.http.put("/api/routes/best", json=rules).status_code == 200
    upstream.silent_at = 700
    assert heard(live).text == upstream.text
    (row,) = live.http.get("/api/requests").json()["data"]
    assert (row["status"], row["served_by"]) == (200, "upstream/service")
    assert (row["continued_by"], row["fallback_reason"]) == ("small", "target_timeout")


@pytest.mark.parametrize("way", ["cut_at", "silent_at"])
def test_what_has_not_said_a_word_has_not_begun(
    live: Live, upstream: DyingUpstream, way: str
) -> None:
    # Behind the role; what comes there keeps the connection up, and no more.
    setattr(upstream, way, upstream.stream().index(b"\n\n") + 2)
    upstream.comments = True
    answer = chat(live, "best", stream=True)
    assert answer.headers["x-genplat-served-by"] == "small"
    reason = "upstream_cut" if way == "cut_at" else "upstream_timeout"
    assert answer.headers["x-genplat-fallback-reason"] == reason
    assert "still here" not in answer.text and "goes on" not in answer.text
    # A second try is the upstream's own where the first one broke.
    assert answer.headers.get("x-genplat-retries") == ("1" if way == "cut_at" else None)


def test_whoever_goes_on_may_break_off_too(live: Live, upstream: DyingUpstream) -> None:
    if "second" not in live.inference.models:
        live.deploy("second")
    rules = {"targets": [{"upstream": "service"}], "fallbacks": ["small", "second"]}
    assert live.http.put("/api/routes/best", json=rules).status_code == 200
    upstream.cut_at, live.inference.breaks_off = 700, {"small"}
    found = heard(live, usage=True)
    assert (found.text, found.ends, found.roles) == (upstream.text, ["stop"], 1)
    assert len(found.heads) == 1
    (row,) = logged(live)
    assert (row["served_by"], row["continued_by"]) == ("upstream/service", "second")
    assert row["fallback_reason"] == "upstream_cut, model_unavailable"
    # Where nobody is left, the client is told, and not that it was all.
    live.inference.dead = {"second"}
    close_breaker(live)
    last = chat(live, "best", stream=True).text.rpartition("data: ")[2]
    assert json.loads(last)["error"]["code"] == "model_unavailable"
    assert logged(live)[0]["status"] == 503


def test_thoughts_alone_are_no_beginning_of_an_answer(live: Live, upstream: DyingUpstream) -> None:
    live.inference.words = OTHER_WORDS
    upstream.cut_at = upstream.stream().index(b"\n\n") + 2
    choice = {"index": 0, "delta": {"reasoning_content": "Hm."}}
    upstream.junk = f"data: {json.dumps(HEAD | {'choices': [choice]})}\n\n".encode()
    found = heard(live)
    assert (found.text, found.ends) == ("".join(OTHER_WORDS), ["stop"])
    assert len(found.heads) == 1 and b"small goes on" in found.raw


def test_what_was_all_that_may_be_written_is_not_gone_on_with(
    live: Live, upstream: DyingUpstream
) -> None:
    upstream.cut_at = upstream.stream().index(b'"finish_reason": "stop"')
    found = heard(live, max_tokens=len(WORDS), usage=True)
    assert (found.text, found.ends, found.usages) == (upstream.text, ["length"], 1)
    (row,) = logged(live)
    assert row["completion_tokens"] == len(WORDS) and row["prompt_tokens"] > 0
    close_breaker(live)
    assert heard(live, max_tokens=len(WORDS)).usages == 0


def test_streams_that_break_off_again_and_again_open_it_too(
    live: Live, upstream: DyingUpstream
) -> None:
    upstream.cut_at = 500
    for _ in range(4):
        heard(live)
    assert len(upstream.asked) == 3


def test_a_beginning_goes_to_those_alone_who_go_on(live: Live, upstream: DyingUpstream) -> None:
    begun = [*MESSAGES, {"role": "assistant", "content": "".join(WORDS[:2])}]
    for stream in (False, True):
        answer = chat(live, "best", messages=begun, continue_final_message=True, stream=stream)
        assert answer.headers["x-genplat-served-by"] == "small"
    alone = {"name": "alone", "targets": [{"upstream": "service"}]}
    assert live.http.post("/api/routes", json=alone).status_code == 201
    refused = chat(live, "alone", messages=begun, continue_final_message=True)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "continue_final_message"
    assert upstream.asked == []


def test_sixty_four_streams_whose_upstream_dies_at_once(
    live: Live, upstream: DyingUpstream
) -> None:
    live.inference.words, upstream.cut_at = OTHER_WORDS, 900

    async def one(client: AsyncOpenAI) -> str:
        text = ""
        stream = await client.chat.completions.create(model="best", messages=MESSAGES, stream=True)
        async for chunk in stream:
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
        return text

    async def all_at_once() -> list[str]:
        url = f"{live.url}/v1"
        async with AsyncOpenAI(base_url=url, api_key=ADMIN_KEY, max_retries=0) as client:
            return await asyncio.gather(*(one(client) for _ in range(64)))

    texts = asyncio.run(all_at_once())
    assert all(map(begun_by_one_and_ended_by_another, texts))
    assert any(text.startswith("Once") for text in texts)
    assert open_requests(live) == 1


def open_requests(live: Live) -> float:
    """Those that are being answered now, this one among them."""
    (line,) = re.findall(r"^genplat_http_requests_open (.*)$", live.http.get("/metrics").text, re.M)
    return float(line)


def test_who_leaves_at_any_moment_is_logged_and_leaves_nothing(
    live: Live, upstream: DyingUpstream
) -> None:
    upstream.silent_at = 700
    moments = random.Random(3)
    for number in range(40):
        close_breaker(live)
        leave(live, moments.choice([0, 0.001, 0.003, 0.006, 0.02]), stream=number % 4 > 0)
    until_true(lambda: open_requests(live) == 1)
    until_true(lambda: len(logged(live)) == 40)
    assert {row["status"] for row in logged(live) if row["stream"]} == {499}
    assert live.services.breakers.of("upstream/service").state == "closed"


def leave(live: Live, seconds: float, *, stream: bool) -> None:
    """Ask, and hang up after so long, whatever has come by then."""
    body = json.dumps(CHAT | {"model": "best", "stream": stream}).encode()
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(live.url.rpartition(":")[2]))) as connection:
        connection.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}".encode() + body)
        time.sleep(seconds)


def logged(live: Live) -> list[dict[str, object]]:
    rows: list[dict[str, object]]
    rows = live.http.get("/api/requests", params={"limit": 100}).json()["data"]
    return rows
