"""What a streamed answer has said, and how another model's stream goes on with it."""

from gateway.orchestrator.answer_reader import DONE, AnswerReader
from gateway.orchestrator.transcript import Said, closing, rewritten
from tests.gateway.orchestrator.streams import as_the_client_reads, event, read


def test_what_cannot_be_continued_is_known() -> None:
    for odd in (
        event({"tool_calls": [{"index": 0}]}),
        event({"content": "b"}, choices=[{"index": 1, "delta": {"content": "b"}}]),
    ):
        assert read(odd)[2].odd
    raw = b'data: {"id": "cmpl-1", "choices": [{"index": 0, "text": "ab"}]}\n\n'
    said = read(raw, "text")[2]
    assert (said.text, said.pieces, said.odd, said.head) == ("ab", 1, False, {"id": "cmpl-1"})


def test_the_next_models_events_carry_the_first_ones_name_and_no_second_role() -> None:
    said = read(event({"role": "assistant", "content": "Hel"}))[2]
    others = [
        event({"role": "assistant", "content": ""}, id="chatcmpl-b", model="small"),
        event({"content": "lo"}, id="chatcmpl-b", model="small"),
        event({}, "stop", id="chatcmpl-b", model="small"),
        event({}, choices=[], usage={"prompt_tokens": 9, "completion_tokens": 2}),
    ]
    piece = AnswerReader("chat").add(b"".join(others) + DONE)
    first, last, counted = as_the_client_reads(rewritten(piece, said, written=said.tokens).raw)
    assert (first["id"], first["model"]) == ("chatcmpl-a", "m")
    assert first["choices"][0]["delta"] == {"content": "lo"}
    assert last["choices"][0]["finish_reason"] == "stop"
    assert counted["usage"] == {"prompt_tokens": 8, "completion_tokens": 3}


def test_who_told_no_role_leaves_that_to_the_next_one() -> None:
    # Azure's first event is of its filters, and has empty names.
    filters = b'data: {"id": "", "choices": [], "prompt_filter_results": []}\n\n'
    said = read(filters + event({"content": ""}))[2]
    assert said.head["id"] == "chatcmpl-a"
    piece = AnswerReader("chat").add(event({"role": "assistant"}))
    (told,) = as_the_client_reads(rewritten(piece, said, written=0).raw)
    assert told["choices"][0]["delta"] == {"role": "assistant"}


def test_a_finish_reason_that_is_empty_is_none() -> None:
    said = read(event({"content": "a"}, ""))[2]
    assert not said.closed


def test_halves_of_a_character_are_put_together() -> None:
    said = read(event({"content": "a\ud83d"}) + event({"content": "\ude00b\ud83d"}))[2]
    assert said.text == "a\U0001f600b\ufffd"


def test_an_answer_that_used_up_what_it_may_write_is_closed() -> None:
    for kind, empty in (("chat", {"delta": {}}), ("text", {"text": ""})):
        said = Said(kind, head={"id": "x", "object": "o", "created": 1, "model": "m"})
        (end,) = as_the_client_reads(closing(said).raw)
        assert end["id"] == "x" and end["choices"][0].items() >= empty.items()
        said.hear([end])
        assert said.closed and said.finish_reason == "length"
