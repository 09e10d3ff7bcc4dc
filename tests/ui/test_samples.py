"""What a model wrote, with what is new in it."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from ui.samples import MOST_WORDS, pieces_of, shown_samples

TEXTS = st.text(alphabet="ab \n\t->", max_size=60)


@given(st.one_of(st.none(), TEXTS), TEXTS)
def test_the_pieces_are_the_output(before: str | None, output: str) -> None:
    pieces = pieces_of(before, output)
    assert "".join(piece.text for piece in pieces) == output
    if before is None or before == output:
        assert not any(piece.new for piece in pieces)


def test_new_words_are_marked_and_no_others() -> None:
    pieces = pieces_of("User asks Shop", "User pays the Shop")
    assert [(piece.text, piece.new) for piece in pieces] == [
        ("User", False),
        (" pays the", True),
        (" Shop", False),
    ]


def test_texts_too_long_to_compare_are_shown_as_they_are() -> None:
    (piece,) = pieces_of("a " * (MOST_WORDS + 1), "b")
    assert (piece.text, piece.new) == ("b", False)


def test_a_sample_says_whether_it_matches_and_changed() -> None:
    def shown(output: str, before: str | None) -> tuple[bool, bool]:
        sample = SimpleNamespace(prompt="p", target="wanted", output=output, before=before)
        (found,) = shown_samples([sample])
        return found.matches, found.changed

    assert shown(" wanted\n", None) == (True, False)
    assert shown("wanted", "wanted") == (True, False)
    assert shown("other", "wanted") == (False, True)
