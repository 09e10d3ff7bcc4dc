"""Incremental text: any split of tokens and any stop strings give what the whole text gives."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from inference_service.engine.text import Detokenizer, StopFilter


def decode_bytes(ids: Sequence[int]) -> str:
    """A tokenizer whose tokens are bytes: most characters need several."""
    return bytes(ids).decode(errors="replace")


@given(st.text(st.characters(codec="utf-8", exclude_characters="�")))
def test_pieces_add_up_to_the_text_and_never_show_half_a_character(text: str) -> None:
    detokenizer = Detokenizer(decode_bytes)
    pieces = [detokenizer.add(byte) for byte in text.encode()]
    assert "�" not in "".join(pieces)
    assert "".join(pieces) + detokenizer.finish() == text


def test_a_character_that_never_becomes_whole_ends_as_a_replacement() -> None:
    detokenizer = Detokenizer(decode_bytes)
    shown = "".join(detokenizer.add(byte) for byte in "aé".encode()[:2])
    assert (shown, detokenizer.finish()) == ("a", "�")


SMALL = st.text("ab\n", max_size=30)


@given(st.lists(SMALL), st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=4))
def test_text_is_cut_at_the_first_stop_string_however_it_arrives(
    pieces: list[str], stops: list[str]
) -> None:
    stop_filter = StopFilter(stops)
    shown = ""
    for piece in pieces:
        shown += stop_filter.add(piece)
        if stop_filter.stopped:
            break
    text = "".join(pieces)
    ends = [text.index(stop) for stop in stops if stop in text]
    if not ends:
        assert shown + stop_filter.finish() == text
    else:
        # What arrives in one piece is cut at the earliest stop in it; never later than the
        # first one whose end has arrived.
        assert stop_filter.stopped
        assert text.startswith(shown)
        assert not any(stop in shown for stop in stops)
        assert any(text.startswith(stop, len(shown)) for stop in stops)


def test_nothing_is_held_back_that_cannot_begin_a_stop_string() -> None:
    stop_filter = StopFilter(["@enduml"])
    assert stop_filter.add("A -> B\n@end") == "A -> B\n"
    assert stop_filter.add("ing") == "@ending"


def test_text_behind_other_text_keeps_the_space_before_its_first_word() -> None:
    """As tokenizers do that drop it at the beginning of a text."""

    def decode(ids: Sequence[int]) -> str:
        return "".join(" word" for _ in ids).removeprefix(" ")

    assert Detokenizer(decode).add(1) == "word"
    assert Detokenizer(decode, before=(1, 1)).add(1) == " word"
