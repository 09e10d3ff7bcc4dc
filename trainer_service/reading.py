"""Makes the rows of whole datasets, and says what does not fit; nothing is cut or dropped in
silence. Knows no model and no batches."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from shared.datasets import Record
from shared.errors import InvalidData
from shared.prompt_template import PromptTemplate
from trainer_service.seq2seq_tokenizing import tokenize_pairs
from trainer_service.tokenizing import AnyRow, PairRow, Row, tokenize_record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Most tokens of a row (of a source text, for seq2seq) and of an answer (only there)."""

    max_length: int
    max_target_length: int

    def fits(self, row: AnyRow) -> bool:
        return self.length(row)[0] <= self.length(row)[1]

    def length(self, row: AnyRow) -> tuple[int, int]:
        """What a row measures where it may be too long, and how long it may be."""
        if isinstance(row, PairRow):
            return len(row.target), self.max_target_length
        return len(row.tokens), self.max_length


class _Tokenized(NamedTuple):
    """All rows of some records; those that fit; and the records of which none was left out."""

    rows: list[AnyRow]
    kept: list[AnyRow]
    whole: list[Record]


def tokenize_records(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    records: Iterable[Record],
    limits: Limits,
) -> list[AnyRow]:
    """All rows that fit. Longer ones are left out whole, and counted in the log: an answer cut
    in the middle would teach the model to stop there. (A seq2seq source loses its end instead.)
    InvalidData where no row fits."""
    rows, kept, _ = _tokenize(tokenizer, template, records, limits, "rows")
    if rows and not kept:
        shortest = min(limits.length(row)[0] for row in rows)
        field, limit = _limit(template, limits)
        raise InvalidData(
            f"Every {_measured(template)} is longer than {field} ({limit} tokens; the shortest has "
            f"{shortest}). Raise {field} or shorten the texts.",
            param=field,
        )
    return kept


def tokenize_validation(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    records: Iterable[Record],
    limits: Limits,
) -> tuple[list[AnyRow], list[Record]]:
    """The rows that fit, and the records of which none was left out: a model in training can be
    asked for their answers. Both empty where no row fits; the log says so."""
    rows, kept, whole = _tokenize(tokenizer, template, records, limits, "validation rows")
    if rows and not kept:
        field, limit = _limit(template, limits)
        log.warning(
            "No validation row fits %s %d: the run goes on without validation.", field, limit
        )
    return kept, whole


def _limit(template: PromptTemplate, limits: Limits) -> tuple[str, int]:
    if template.family == "seq2seq":
        return "max_target_length", limits.max_target_length
    return "max_length", limits.max_length


def _measured(template: PromptTemplate) -> str:
    return "answer" if template.family == "seq2seq" else "row"


def _rows_of(
    tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, record: Record, limits: Limits
) -> list[Row] | list[PairRow]:
    if template.family == "seq2seq":
        return tokenize_pairs(tokenizer, template, record, max_length=limits.max_length)
    return tokenize_record(tokenizer, template, record)


def _tokenize(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    records: Iterable[Record],
    limits: Limits,
    what: str,
) -> _Tokenized:
    made = _Tokenized([], [], [])
    for record in records:
        rows = _rows_of(tokenizer, template, record, limits)
        fitting = [row for row in rows if limits.fits(row) and row.supervised]
        made.rows.extend(rows)
        made.kept.extend(fitting)
        if len(fitting) == len(rows):
            made.whole.append(record)
    _say_what_does_not_fit(template, made, limits, what)
    if any(not _teaches_to_stop(row, template) for row in made.kept):
        raise InvalidData("A row does not teach the model to stop: its end token is not learned.")
    return made


def _teaches_to_stop(row: AnyRow, template: PromptTemplate) -> bool:
    learned = row.target if isinstance(row, PairRow) else row.labels
    return bool(set(learned) & set(template.stop_token_ids))


def _say_what_does_not_fit(
    template: PromptTemplate, made: _Tokenized, limits: Limits, what: str
) -> None:
    if dropped := len(made.rows) - len(made.kept):
        field, limit = _limit(template, limits)
        log.warning(
            "%d of %d %s left out: %slonger than %s %d tokens (the longest has %d).",
            dropped,
            len(made.rows),
            what,
            "answer " if template.family == "seq2seq" else "",
            field,
            limit,
            max(limits.length(row)[0] for row in made.rows),
        )
    if cut := sum(row.cut for row in made.kept if isinstance(row, PairRow)):
        log.warning(
            "%d of %d %s have a source text that was cut at its end to max_length %d tokens.",
            cut,
            len(made.kept),
            what,
            limits.max_length,
        )
