"""Reads a run's data as its base model would, whole: the lengths are judged afterwards."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from shared.datasets import Record
from shared.memory import Longest
from shared.prompt_template import PromptTemplate
from shared.runs import FineTuneSpec
from trainer_service.job_files import Job, WeightedRecords
from trainer_service.lessons import template_of
from trainer_service.mixing import Part
from trainer_service.modeling import context_length, load_tokenizer
from trainer_service.reading import Limits, Sized, fitting, longest_of, read_rows
from trainer_service.tokenizing import AnyRow


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

    @property
    def longest(self) -> Longest | None:
        return longest_of([*self.rows, *(sized.row for sized in self.validation)])

    def kept(self, limits: Limits) -> list[list[Sized]]:
        """The training rows that a run learns from, as it would see them."""
        return [fitting(self.tokenizer, own, limits) for own in self.training]

    def kept_validation(self, limits: Limits) -> list[Sized]:
        return fitting(self.tokenizer, self.validation, limits)

    def parts(self, limits: Limits) -> list[Part]:
        kept = self.kept(limits)
        return [Part(len(own), weight) for own, weight in zip(kept, self.weights, strict=True)]


def read_data(
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
        training=[read_rows(tokenizer, template, each.records) for each in datasets],
        weights=[each.weight for each in datasets],
        validation=read_rows(tokenizer, template, validation),
    )
