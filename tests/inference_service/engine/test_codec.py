"""Tokens and text for both kinds of tokenizers: nothing added, nothing cut, from any thread."""

import concurrent.futures
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, ByT5Tokenizer

from inference_service.engine.codec import Codec
from inference_service.engine.text import Detokenizer
from tests.inference_service.tiny_families import t5_tokenizer
from tests.trainer_service.tiny import tiny_tokenizer

BYT5 = ByT5Tokenizer()  # type: ignore[no-untyped-call]
TOKENIZERS = [BYT5, t5_tokenizer(), tiny_tokenizer()]
TEXTS = ("He go home.", "é 文 🎈", "two\nlines", "x" * 3000, "")


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["byt5", "t5", "bytes"])
def test_ids_are_those_that_training_makes(tokenizer: object, tmp_path: Path) -> None:
    TOKENIZERS[TOKENIZERS.index(tokenizer)].save_pretrained(tmp_path)
    trained = AutoTokenizer.from_pretrained(tmp_path)
    codec = Codec(AutoTokenizer.from_pretrained(tmp_path))
    for text in TEXTS:
        for special in (True, False):
            ids = codec.encode(text, special=special)
            assert list(ids) == trained.encode(text, add_special_tokens=special)
            assert codec.decode(ids) == trained.decode(ids, skip_special_tokens=True)


def test_a_python_tokenizer_serves_many_threads() -> None:
    codec = Codec(BYT5)
    texts = [f"{place} é {'x' * place}" for place in range(200)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: codec.encode(text, special=True), texts))
        back = list(pool.map(codec.decode, found))
    assert back == texts


def test_ids_without_a_token_have_no_text() -> None:
    # A model's vocabulary may be larger than its tokenizer's.
    assert Codec(BYT5).decode([107, 384, 10**6, 108, 1, 0, 260]) == "hi"


@given(st.text(st.characters(codec="utf-8")))
def test_bytes_become_text_only_when_a_character_is_whole(text: str) -> None:
    codec = Codec(BYT5)
    detokenizer = Detokenizer(codec.decode)
    pieces = [detokenizer.add(byte + 3) for byte in text.encode()]
    assert all(text.startswith("".join(pieces[:end])) for end in range(len(pieces)))
    assert "".join(pieces) + detokenizer.finish() == text


@given(st.lists(st.integers(0, 400), max_size=40))
def test_any_tokens_give_in_pieces_what_they_give_at_once(ids: list[int]) -> None:
    codec = Codec(BYT5)
    detokenizer = Detokenizer(codec.decode)
    pieces = [detokenizer.add(token) for token in ids]
    assert "".join(pieces) + detokenizer.finish() == codec.decode(ids)
