"""Reads a run's data as its base model would, whole: the lengths are judged afterwards."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from shared.datasets import Record
from shared.prompt_template import PromptTemplate
from shared.runs import FineTuneSpec, Hyperparameters
from trainer_service.job_files import Job, WeightedRecords
from trainer_service.mixing import Part
from trainer_service.modeling import context_length, load_tokenizer
from trainer_service.reading import Limits
from trainer_service.seq2seq_tokenizing import tokenize_pairs
from trainer_service.tokenizing import AnyRow, PairRow, tokenize_record
from trainer_service.training_setup import template_of

# Longer than any text that a run could learn from.
UNLIMITED = 10_000_000


class Sized(NamedTuple):
    """A row, and the record that it was made of."""

    row: AnyRow
    record: Record


@dataclass(frozen=True)
class Reading:
    """The rows of each dataset and of the validation records, before any limit."""

    tokenizer: PreTrainedTokenizerBase
    template: PromptTemplate
    context_length: int
    training: list[list[Sized]]
    weights: list[float]
    validation: list[Sized]

    @property
    def rows(self) -> list[AnyRow]:
        return [sized.row for own in self.training for sized in own]

    def kept(self, limits: Limits) -> list[list[Sized]]:
        """The training rows that a run learns from, as it would see them."""
        return [_fitting(own, limits) for own in self.training]

    def kept_validation(self, limits: Limits) -> list[Sized]:
        return _fitting(self.validation, limits)

    def parts(self, limits: Limits) -> list[Part]:
        kept = self.kept(limits)
        return [Part(len(own), weight) for own, weight in zip(kept, self.weights, strict=True)]


def read_rows(
    job: Job,
    spec: FineTuneSpec,
    folder: Path,
    datasets: list[WeightedRecords],
    validation: list[Record],
) -> Reading:
    """InvalidData where the tokenizer or its chat template cannot make rows of the records."""
    tokenizer = load_tokenizer(folder)
    template = template_of(job, spec, folder, tokenizer)
    return Reading(
        tokenizer=tokenizer,
        template=template,
        context_length=context_length(folder),
        training=[_rows(tokenizer, template, each.records) for each in datasets],
        weights=[each.weight for each in datasets],
        validation=_rows(tokenizer, template, validation),
    )


def _rows(
    tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, records: Iterable[Record]
) -> list[Sized]:
    made: list[Sized] = []
    for record in records:
        rows: list[AnyRow] = (
            [*tokenize_pairs(tokenizer, template, record, max_length=UNLIMITED)]
            if template.family == "seq2seq"
            else [*tokenize_record(tokenizer, template, record)]
        )
        made += [Sized(row, record) for row in rows]
    return made


def _fitting(rows: list[Sized], limits: Limits) -> list[Sized]:
    return [
        sized._replace(row=_cut(sized.row, limits))
        for sized in rows
        if limits.fits(sized.row) and sized.row.supervised
    ]


def _cut(row: AnyRow, limits: Limits) -> AnyRow:
    """A source text loses its end, but not the mark that the tokenizer puts there."""
    if not isinstance(row, PairRow) or len(row.source) <= limits.max_length:
        return row
    return replace(row, source=(*row.source[: limits.max_length - 1], row.source[-1]), cut=True)


def limits_of(numbers: Hyperparameters) -> Limits:
    return Limits(numbers.max_length, numbers.max_target_length)
