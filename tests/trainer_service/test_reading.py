"""What of whole datasets is learned, cut or left out, and that it is said."""

import logging

import pytest

from shared.datasets import Record
from shared.errors import InvalidData
from shared.prompt_template import PromptTemplate
from tests.trainer_service.families import t5_tokenizer
from tests.trainer_service.test_tokenizing import TOKENIZER, learned_text, make_template
from trainer_service.reading import Limits, read_rows, training_rows, validation_rows
from trainer_service.tokenizing import AnyRow, PairRow


def limits(max_length: int, max_target_length: int = 256) -> Limits:
    return Limits(max_length, max_target_length)


def learned(
    records: list[Record], limits: Limits, *, template: PromptTemplate | None = None
) -> list[AnyRow]:
    template = template or make_template()
    tokenizer = T5 if template.family == "seq2seq" else TOKENIZER
    return training_rows(tokenizer, template, read_rows(tokenizer, template, records), limits)


def validated(records: list[Record], limits: Limits) -> tuple[list[AnyRow], list[Record]]:
    rows = read_rows(TOKENIZER, make_template(), records)
    return validation_rows(TOKENIZER, make_template(), rows, limits)


def test_long_rows_are_left_out_whole_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    records = [Record.from_pair("a", "b"), Record.from_pair("a", "b" * 100)]
    with caplog.at_level(logging.WARNING):
        rows = learned(records, limits(60))
    assert [learned_text(row) for row in rows] == ["b<|im_end|>"]
    assert "1 of 2 rows left out" in caplog.text


def test_nothing_left_is_an_error_that_names_the_field() -> None:
    with pytest.raises(InvalidData, match="max_length") as caught:
        learned([Record.from_pair("a", "b" * 100)], limits(50))
    assert caught.value.param == "max_length"


def test_only_validation_records_that_fit_are_there_to_be_sampled() -> None:
    fits, too_long = Record.from_pair("a", "b"), Record.from_pair("a" * 100, "b")
    rows, records = validated([too_long, fits, too_long], limits(60))
    assert [learned_text(row) for row in rows] == ["b<|im_end|>"]
    assert records == [fits]


def test_no_validation_row_that_fits_is_said_and_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    long = [Record.from_pair("a", "b" * 100)]
    with caplog.at_level(logging.WARNING):
        assert validated(long, limits(60)) == ([], [])
    assert "goes on without validation" in caplog.text and "max_length 60" in caplog.text
    caplog.clear()
    assert validated([], limits(60)) == ([], [])
    assert not caplog.text


T5 = t5_tokenizer()
T5_TEMPLATE = PromptTemplate(
    base_model="t5", family="seq2seq", task_prefix="fix: ", stop_token_ids=(1,)
)


def test_seq2seq_sources_lose_their_end_and_long_answers_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    records = [
        Record.from_pair("a", "b"),
        Record.from_pair("c" * 50, "d"),
        Record.from_pair("e", "f" * 50),
    ]
    rows = learned(records, limits(20, 10), template=T5_TEMPLATE)
    pairs = [row for row in rows if isinstance(row, PairRow)]
    assert [T5.decode(row.source) for row in pairs] == ["fix: a</s>", f"fix: {'c' * 14}</s>"]
    assert [T5.decode(row.target) for row in pairs] == ["b</s>", "d</s>"]
    assert [row.cut for row in pairs] == [False, True]
    assert "1 of 3 rows left out: answer longer than max_target_length 10 tokens" in caplog.text
    assert "1 of 2 rows have a source text that was cut at its end to max_length 20" in caplog.text


def test_where_every_answer_is_too_long_the_field_is_named() -> None:
    with pytest.raises(
        InvalidData, match=r"max_target_length \(3 tokens; the shortest has 5\)"
    ) as no:
        learned([Record.from_pair("a", "four")], limits(100, 3), template=T5_TEMPLATE)
    assert no.value.param == "max_target_length"
