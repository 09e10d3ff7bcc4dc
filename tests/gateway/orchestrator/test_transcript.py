"""A stream cut at any byte: what a client has of it, and how it goes on."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orchestrator.transcript import (
    DONE,
    MAX_EVENT_BYTES,
    Transcript,
    WholeEvents,
    before_done,
    error_in,
    read_events,
    rewritten,
)
from shared.errors import UpstreamFailed


def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "chatcmpl-a", "created": 7, "model": "m", "choices": [choice]} | more
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def stream(*words: str) -> bytes:
    parts = [event({"role": "assistant", "content": ""})]
    parts += [event({"content": word}) for word in words]
    return b"".join([*parts, event({}, "stop"), DONE])


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@given(st.lists(TEXT, max_size=6), st.data())
def test_a_client_never_gets_half_an_event(words: list[str], data: st.DataObject) -> None:
    whole = stream(*words)
    cut = data.draw(st.integers(0, len(whole)))
    steps = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=60))
    events, transcript, sent, place = WholeEvents(), Transcript("chat"), b"", 0
    while place < cut:
        for step in steps:
            piece = whole[place : min(cut, place + step)]
            place += len(piece)
            passed = events.add(piece)
            transcript.add(passed)
            sent += passed
    assert sent + events.rest == whole[:cut]
    assert not sent or sent.endswith(b"\n\n")
    said = transcript.read()
    assert "".join(words).startswith(said.text)
    assert said.pieces <= len(words)
    assert said.closed == (b'"stop"' in sent)
    assert (before_done(sent) is not None) == (cut == len(whole))


def test_events_of_other_line_ends_are_whole_too() -> None:
    events = WholeEvents()
    assert events.add(b"data: {}\r\n\r\ndata: ") == b"data: {}\r\n\r\n"
    assert events.rest == b"data: "


def test_an_event_without_an_end_is_given_up() -> None:
    with pytest.raises(UpstreamFailed):
        WholeEvents().add(b"x" * (MAX_EVENT_BYTES + 1))


def test_what_cannot_be_continued_is_known() -> None:
    for odd in (
        event({"tool_calls": [{"index": 0}]}),
        event({"content": "b"}, choices=[{"index": 1, "delta": {"content": "b"}}]),
    ):
        transcript = Transcript("chat")
        transcript.add(odd)
        assert transcript.read().odd
    transcript = Transcript("text")
    transcript.add(b'data: {"id": "cmpl-1", "choices": [{"index": 0, "text": "ab"}]}\n\n')
    said = transcript.read()
    assert (said.text, said.pieces, said.odd, said.head) == ("ab", 1, False, {"id": "cmpl-1"})


def test_an_error_event_is_heard_and_text_about_errors_is_not() -> None:
    assert error_in(b'data: {"error": {"message": "gone"}}\n\n') == "gone"
    assert error_in(event({"content": 'an "error": {"message": "x"}'})) is None
    assert error_in(event({"content": "fine"})) is None


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_whatever_comes_is_read_without_a_fault(pieces: list[bytes]) -> None:
    junk = b"".join(b"data: " + piece + b"\n\n" for piece in pieces)
    transcript = Transcript("chat")
    transcript.add(junk)
    said = transcript.read()
    assert said.text == "" or isinstance(said.text, str)
    assert list(read_events(rewritten(junk, said, "chat"))) is not None
    error_in(junk)


def test_the_next_models_events_carry_the_first_ones_name_and_no_second_role() -> None:
    transcript = Transcript("chat")
    transcript.add(event({"role": "assistant", "content": "Hel"}))
    others = (
        event({"role": "assistant", "content": ""}, id="chatcmpl-b", model="small")
        + event({"content": "lo"}, id="chatcmpl-b", model="small")
        + event({}, "stop", id="chatcmpl-b", model="small")
        + DONE
    )
    first, last = read_events(rewritten(others, transcript.read(), "chat"))
    assert (first["id"], first["model"]) == ("chatcmpl-a", "m")
    assert first["choices"][0]["delta"] == {"content": "lo"}
    assert last["choices"][0]["finish_reason"] == "stop"


def test_a_model_may_write_the_end_mark_itself() -> None:
    own = event({"content": "data: [DONE]"}) + event({"content": "\n\ndata: [DONE]\n\n"})
    assert before_done(own) is None
    assert before_done(own + b"data:[DONE]\n\n: bye\n\n") == own
