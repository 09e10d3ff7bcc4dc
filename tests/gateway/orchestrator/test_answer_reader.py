"""A stream cut at any byte, or holding anything: what of it a client gets, and can read."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orchestrator.answer_reader import DONE, MAX_EVENT_BYTES, AnswerReader, WholeEvents
from gateway.orchestrator.transcript import Said, rewritten
from shared.errors import UpstreamFailed
from tests.gateway.orchestrator.streams import GOOD, TEXT, as_the_client_reads, event, read, stream


@given(st.lists(TEXT, max_size=6), st.data())
def test_a_client_never_gets_half_an_event(words: list[str], data: st.DataObject) -> None:
    whole = stream(*words)
    cut = data.draw(st.integers(0, len(whole)))
    steps = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=60))
    events, reader, said, sent, passed, place = (
        WholeEvents(),
        AnswerReader("chat"),
        Said("chat"),
        b"",
        b"",
        0,
    )
    while place < cut:
        for step in steps:
            chunk = whole[place : min(cut, place + step)]
            place += len(chunk)
            sent += events.add(chunk)
            piece = reader.add(chunk)
            passed += piece.raw
            said.hear(piece.events)
    assert sent + events.rest == whole[:cut]
    assert passed == sent.removesuffix(DONE)
    assert not sent or sent.endswith(b"\n\n")
    assert "".join(words).startswith(said.text)
    assert said.pieces <= len(words)
    assert said.closed == (b'"stop"' in sent)
    assert reader.done == (cut == len(whole)) and reader.trouble is None


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n"])
def test_events_of_all_line_ends_are_whole(end: bytes) -> None:
    raw = stream("Hel", "lo").replace(b"\n", end)
    reader, passed, said = read(raw)
    assert (said.text, reader.done) == ("Hello", True)
    assert as_the_client_reads(passed) == as_the_client_reads(stream("Hel", "lo"))
    events = WholeEvents()
    half = b"data: {}" + end * 2 + b"data: "
    assert events.add(half[:9]) + events.add(half[9:]) == b"data: {}" + end * 2
    assert events.rest == b"data: "


def test_an_event_without_an_end_is_given_up() -> None:
    with pytest.raises(UpstreamFailed):
        WholeEvents().add(b"x" * (MAX_EVENT_BYTES + 1))
    reader, passed, _ = read(b"x" * (MAX_EVENT_BYTES + 1))
    assert reader.trouble is not None and passed == b""


def test_a_long_event_costs_no_more_than_its_length() -> None:
    events, piece = WholeEvents(), b"x" * 16
    began = time.process_time()
    for _ in range(200_000):
        events.add(piece)
    # Looking through all of it with each piece took a minute and more.
    assert time.process_time() - began < 5
    assert len(events.add(b"\n\n")) == 3_200_002


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b'data: {"error": {"message": "gone"}}\n\n', "stream_failed"),
        (b'data: {"error": "gone"}\n\n', "stream_failed"),
        (event({"content": ""}, "error", error={"message": "gone"}), "stream_failed"),
        (b'event: error\ndata: {"message": "gone"}\n\n', "stream_failed"),
        (b'data: {"object": "error", "message": "gone"}\n\n', "stream_failed"),
        (b'data: {"choi\n\n', "stream_unreadable"),
        (b"data: \xf0\x9f\n\n", "stream_unreadable"),
        (b'data: {"choices": [{"delta": {"content": "\xed\xa0\x80"}}]}\n\n', "stream_unreadable"),
        (b"\xff\xfe\n\n", "stream_unreadable"),
        (b"<html>\n\n", "stream_unreadable"),
        (b": \xff\n\n", "stream_unreadable"),
        (b"data: 5\n\n", "stream_unreadable"),
        (b"data: []\n\n", "stream_unreadable"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "stream_unreadable"),
        (b'data: {"choices": 5}\n\n', "stream_unreadable"),
        (b'data: {"choices": [5]}\n\n', "stream_unreadable"),
        (b'data: {"choices": [{"index": 0, "delta": null}]}\n\n', "stream_unreadable"),
        (b'data: {"choices": [{"index": 0}]}\n\n', "stream_unreadable"),
        (b'data: {"choices": [{"delta": {"content": 7}}]}\n\n', "stream_unreadable"),
        (b'data: {"choices": [{"delta": {}, "logprobs": NaN}]}\n\n', "stream_unreadable"),
    ],
)
def test_what_a_client_would_stumble_over_ends_an_answer(bad: bytes, code: str) -> None:
    reader, passed, said = read(GOOD + bad + GOOD)
    assert reader.trouble is not None and reader.trouble.code == code
    # What came before it is good.
    assert (passed, said.text) == (GOOD, "fine")


def test_what_says_nothing_is_passed_on_or_left_out() -> None:
    comment, kept = b": still here\n\n", event({"content": 'an "error": {"message": "x"}'})
    for more, passed in (
        (b"event: ping\ndata: {}\n\n", b""),
        (b'data: {"choices": null}\n\n', b""),
        (comment, comment),
        # The client takes a comment behind an id for an event without data.
        (b"id: 7\nretry: 1\n" + GOOD + comment, GOOD + comment),
        (b"id: 7\n\n", b"\n"),
        (event({}, error=None), event({}, error=None)),
        (kept, kept),
    ):
        reader, got, _ = read(GOOD + more + GOOD)
        assert got == GOOD + passed + GOOD and reader.trouble is None
        assert as_the_client_reads(got)


JUNK = st.one_of(
    st.binary(max_size=30),
    st.binary(max_size=30).map(lambda raw: b"data: " + raw + b"\n\n"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | TEXT,
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["choices", "delta", "content", "error", "usage", "index"]), inner
            )
        ),
        max_leaves=8,
    ).map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\n"),
    TEXT.map(lambda word: event({"content": word})),
    st.sampled_from([b"id: 7\n", b"event: x\n", b": comment\n\n", b"retry: 5\r\n\r\n"]),
)


@given(st.lists(JUNK, max_size=8))
def test_whatever_comes_a_client_can_read_what_is_passed_on(pieces: list[bytes]) -> None:
    reader, passed, said = AnswerReader("chat"), b"", Said("chat")
    for junk in pieces:
        piece = reader.add(junk)
        passed += piece.raw
        said.hear(piece.events)
        # The next one may have sent it, too.
        as_the_client_reads(rewritten(piece, said, written=said.tokens).raw)
        if reader.trouble or reader.done:
            break
    heard = as_the_client_reads(passed)
    for chunk in heard:
        assert not chunk.get("error")
        assert all(isinstance(choice["delta"], dict) for choice in chunk["choices"])
    said.text.encode()


def test_a_model_may_write_the_end_mark_itself() -> None:
    own = event({"content": "data: [DONE]"}) + event({"content": "\n\ndata: [DONE]\n\n"})
    assert not read(own)[0].done
    reader, passed, _ = read(own + b"data:[DONE]\n\n" + GOOD + b"garbage\n\n")
    assert reader.done and reader.trouble is None and passed == own
