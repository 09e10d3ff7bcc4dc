"""What service LLMs say when they refuse, and which answers a client can read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orchestrator.upstreams import Upstream
from gateway.upstream_answers import refusal, seconds_to_wait, whole_answer
from shared.errors import GenPlatError, UpstreamFailed

UPSTREAM = Upstream(name="large", base_url="http://secret.example/v1", model="m")


def refused(status: int, said: Any, **headers: str) -> GenPlatError:
    return refusal(UPSTREAM, status, headers, json.dumps(said).encode())


def test_what_was_wrong_with_a_request_is_told() -> None:
    told = {"message": "too long", "code": "context_length_exceeded", "param": "messages"}
    # Google's compatible endpoint answers with a list.
    for said in ({"error": told}, [{"error": told}]):
        error = refused(400, said)
        assert (error.status, error.message) == (400, "large: too long")
        assert (error.code, error.param) == (told["code"], told["param"])


def test_a_key_that_google_does_not_know_is_no_fault_of_the_request() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    said = {"code": 400, "message": "API key not valid.", "details": details}
    error = refused(400, [{"error": said}])
    assert isinstance(error, UpstreamFailed) and error.code == "upstream_400"


@pytest.mark.parametrize("said", [None, [], {}, {"error": "no"}, {"error": {"message": "\ud800"}}])
@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_whatever_a_refusal_holds_it_is_one(said: Any, status: int) -> None:
    error = refused(status, said)
    json.dumps(error.body()).encode()
    error.message.encode()
    assert error.status >= 400


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, None),
        (
            {
                "retry-after": "Wed, 21 Oct 2015 07:28:30 GMT",
                "date": "Wed, 21 Oct 2015 07:28:00 GMT",
            },
            30,
        ),
        (
            {
                "retry-after": "Wed, 21 Oct 2015 07:28:30 GMT",
                "date": "Wed, 21 Oct 2015 07:29:00 GMT",
            },
            None,
        ),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "999999999999"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "soon", "retry-after-ms": "x"}, None),
    ],
)
def test_when_to_come_back(headers: dict[str, str], seconds: float | None) -> None:
    assert seconds_to_wait(headers) == seconds
    assert refused(503, None, **headers).retry_after == seconds
    assert refused(429, None, **headers).retry_after == seconds


@given(st.text(max_size=40), st.text(max_size=40))
def test_headers_hold_anything(told: str, date: str) -> None:
    seconds = seconds_to_wait({"retry-after": told, "retry-after-ms": told, "date": date})
    assert seconds is None or seconds >= 0


def chat_of(message: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, "message": message}]}).encode()


def test_a_whole_answer_is_the_one_that_was_sent() -> None:
    sent = chat_of({"role": "assistant", "content": "a\ud83d"})
    assert whole_answer(UPSTREAM, "chat", sent) == json.loads(sent)
    assert whole_answer(UPSTREAM, "chat", chat_of({"content": None, "tool_calls": []}))
    assert whole_answer(UPSTREAM, "text", b'{"choices": [{"text": "a"}]}')


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"error": {"message": "no"}}',
        b'{"choices": []}',
        b'{"choices": {}}',
        b'{"choices": [1]}',
        b'{"choices": [{"text": "a"}]}',
        chat_of(None),
        chat_of("text"),
        chat_of({"content": 7}),
        b'{"choices": [{"message": {"content": "a"}}], "x": NaN}',
        b'{"choices": [{"message": {"content": "a"}}], "error": "overloaded"}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_a_client_could_not_read_is_no_answer(content: bytes) -> None:
    with pytest.raises(UpstreamFailed) as caught:
        whole_answer(UPSTREAM, "chat", content)
    assert caught.value.code == "upstream_unreadable"
