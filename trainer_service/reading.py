"""Makes the rows of whole datasets, and says what does not fit; nothing is cut or dropped in
silence. Knows no model and no batches."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from shared.datasets import Record
from shared.errors import InvalidData
from shared.memory import Longest
from shared.prompt_template import PromptTemplate
from shared.runs import Hyperparameters
from trainer_service.seq2seq_tokenizing import cut_source, tokenize_pairs
from trainer_service.tokenizing import AnyRow, PairRow, tokenize_record

log = logging.getLogger(__name__)


class Sized(NamedTuple):
    """A row, and the record that it was made of."""

    row: AnyRow
    record: Record


@dataclass(frozen=True)
class Limits:
    """Most tokens of a row (of a source text, for seq2seq) and of an answer (only there)."""

    max_length: int
    max_target_length: int

    def admits(self, row: AnyRow) -> bool:
        length, limit = self.length(row)
        return length <= limit and row.supervised > 0

    def length(self, row: AnyRow) -> tuple[int, int]:
        """What a row measures where it may be too long, and how long it may be."""
        if isinstance(row, PairRow):
            return len(row.target), self.max_target_length
        return len(row.tokens), self.max_length


def limits_of(numbers: Hyperparameters) -> Limits:
    return Limits(numbers.max_length, numbers.max_target_length)


def longest_of(rows: Iterable[AnyRow]) -> Longest | None:
    """The longest of rows of one kind; None where there are none."""
    found = None
    for row in rows:
        source, target = row.size
        own = Longest(source, target) if isinstance(row, PairRow) else Longest(target)
        found = own if found is None else Longest(*map(max, found, own))
    return found


def read_rows(
    tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, records: Iterable[Record]
) -> list[Sized]:
    """Whole rows, before any limit. InvalidData where the tokenizer or its chat template cannot
    make rows of the records."""
    read = tokenize_pairs if template.family == "seq2seq" else tokenize_record
    return [Sized(row, record) for record in records for row in read(tokenizer, template, record)]


def fitting(
    tokenizer: PreTrainedTokenizerBase, rows: Iterable[Sized], limits: Limits
) -> list[Sized]:
    """Those that can be learned from, as a model sees them. Longer ones are left out whole: an
    answer cut in the middle would teach the model to stop there. (A seq2seq source loses its end
    instead.)"""
    return [
        sized._replace(row=_cut(tokenizer, sized.row, limits))
        for sized in rows
        if limits.admits(sized.row)
    ]


def _cut(tokenizer: PreTrainedTokenizerBase, row: AnyRow, limits: Limits) -> AnyRow:
    if not isinstance(row, PairRow) or len(row.source) <= limits.max_length:
        return row
    return replace(row, source=cut_source(tokenizer, row.source, limits.max_length), cut=True)


def training_rows(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    rows: Sequence[Sized],
    limits: Limits,
) -> list[AnyRow]:
    """All that fit; the log counts the others. InvalidData where no row fits."""
    kept = _kept(tokenizer, template, rows, limits, "rows")
    if rows and not kept:
        shortest = min(limits.length(sized.row)[0] for sized in rows)
        field, limit = _limit(template, limits)
        raise InvalidData(
            f"Every {_measured(template)} is longer than {field} ({limit} tokens; the shortest has "
            f"{shortest}). Raise {field} or shorten the texts.",
            param=field,
        )
    return [sized.row for sized in kept]


def validation_rows(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    rows: Sequence[Sized],
    limits: Limits,
) -> tuple[list[AnyRow], list[Record]]:
    """The rows that fit, and the records of which none was left out: a model in training can be
    asked for their answers. Both empty where no row fits; the log says so."""
    kept = _kept(tokenizer, template, rows, limits, "validation rows")
    if rows and not kept:
        field, limit = _limit(template, limits)
        log.warning(
            "No validation row fits %s %d: the run goes on without validation.", field, limit
        )
    broken = {id(sized.record) for sized in rows if not limits.admits(sized.row)}
    whole = {id(each.record): each.record for each in kept if id(each.record) not in broken}
    return [sized.row for sized in kept], list(whole.values())


def _limit(template: PromptTemplate, limits: Limits) -> tuple[str, int]:
    if template.family == "seq2seq":
        return "max_target_length", limits.max_target_length
    return "max_length", limits.max_length


def _measured(template: PromptTemplate) -> str:
    return "answer" if template.family == "seq2seq" else "row"


def _kept(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    rows: Sequence[Sized],
    limits: Limits,
    what: str,
) -> list[Sized]:
    kept = fitting(tokenizer, rows, limits)
    _say_what_does_not_fit(template, rows, kept, limits, what)
    if any(not _teaches_to_stop(sized.row, template) for sized in kept):
        raise InvalidData("A row does not teach the model to stop: its end token is not learned.")
    return kept


def _teaches_to_stop(row: AnyRow, template: PromptTemplate) -> bool:
    learned = row.target if isinstance(row, PairRow) else row.labels
    return bool(set(learned) & set(template.stop_token_ids))


def _say_what_does_not_fit(
    template: PromptTemplate,
    rows: Sequence[Sized],
    kept: Sequence[Sized],
    limits: Limits,
    what: str,
) -> None:
    if dropped := len(rows) - len(kept):
        field, limit = _limit(template, limits)
        log.warning(
            "%d of %d %s left out: %slonger than %s %d tokens (the longest has %d).",
            dropped,
            len(rows),
            what,
            "answer " if template.family == "seq2seq" else "",
            field,
            limit,
            max(limits.length(sized.row)[0] for sized in rows),
        )
    if cut := sum(sized.row.cut for sized in kept if isinstance(sized.row, PairRow)):
        log.warning(
            "%d of %d %s have a source text that was cut at its end to max_length %d tokens.",
            cut,
            len(kept),
            what,
            limits.max_length,
        )
