"""What the encoder reads and the decoder learns of a record."""

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from shared.datasets import Message, Record
from shared.prompt_template import PromptTemplate
from tests.trainer_service.families import t5_tokenizer
from trainer_service.seq2seq_tokenizing import cut_source, source_tokens, tokenize_pairs

TOKENIZERS = {"t5": t5_tokenizer(), "byt5": ByT5Tokenizer()}


def make_template(prefix: str = "") -> PromptTemplate:
    return PromptTemplate(
        base_model="t5", family="seq2seq", task_prefix=prefix, stop_token_ids=(1,)
    )


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_pair_is_its_source_and_its_answer_each_with_an_end(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    record = Record.from_pair("häuser", "ä b")
    (row,) = tokenize_pairs(tokenizer, make_template("fix: "), record)
    assert tokenizer.decode(row.source) == "fix: häuser</s>"
    assert tokenizer.decode(row.target) == "ä b</s>"
    assert row.supervised == len(row.target) == 5
    assert row.size == (len(row.source), 5) and not row.cut
    # As `tokenizer(text)` of everybody else.
    assert list(row.source) == tokenizer("fix: häuser")["input_ids"]


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_long_source_keeps_its_end_mark(tokenizer: PreTrainedTokenizerBase) -> None:
    ids, cut = source_tokens(tokenizer, "abcdefgh", max_length=4)
    assert cut and tokenizer.decode(ids) == "abc</s>"
    assert source_tokens(tokenizer, "abc", max_length=4) == (ids, False)
    # As the tokenizer itself would.
    assert list(ids) == tokenizer.encode("abcdefgh", truncation=True, max_length=4)


def test_a_source_without_marks_loses_its_end_alone() -> None:
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate("abcd")}, "d"))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    assert cut_source(fast, (0, 1, 2, 3), 2) == (0, 1)


def test_a_conversation_is_its_texts_before_each_learned_answer() -> None:
    record = Record(
        messages=(
            Message(role="system", content="be brief"),
            Message(role="user", content="one"),
            Message(role="assistant", content="1"),
            Message(role="user", content="two"),
            Message(role="assistant", content="wrong", weight=0),
            Message(role="user", content="three"),
            Message(role="assistant", content="3"),
        )
    )
    tokenizer = TOKENIZERS["t5"]
    rows = tokenize_pairs(tokenizer, make_template("say: "), record)
    assert [tokenizer.decode(row.source, skip_special_tokens=True) for row in rows] == [
        "be brief\nsay: one",
        "be brief\none\n1\ntwo\nwrong\nsay: three",
    ]
    assert [tokenizer.decode(row.target, skip_special_tokens=True) for row in rows] == ["1", "3"]
