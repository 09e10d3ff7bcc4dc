"""Makes what a run learns from: its data, split, and read as its base model reads; loads no
model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from shared.datasets import Record
from shared.errors import InvalidData
from shared.hyperparameters import resolve_hyperparameters
from shared.model_library import built_in_library
from shared.prompt_template import PromptTemplate
from shared.runs import FineTuneSpec, Hyperparameters
from shared.splits import held_out_sources
from trainer_service.base_models import prepare_base_model
from trainer_service.continuing import inherited_spec
from trainer_service.job_files import Job, WeightedRecords, read_json
from trainer_service.mixing import Part, rows_in_epoch
from trainer_service.modeling import context_length, family_of, load_tokenizer, make_template
from trainer_service.reading import (
    limits_of,
    longest_of,
    read_rows,
    training_rows,
    validation_rows,
)
from trainer_service.tokenizing import AnyRow


@dataclass(frozen=True)
class Lessons:
    """The data of a run as its base model reads it. ``parts`` says which of ``rows`` come from
    which dataset. Of ``validation_records`` answers may be written: no row of theirs was left
    out."""

    folder: Path
    tokenizer: PreTrainedTokenizerBase
    template: PromptTemplate
    numbers: Hyperparameters
    rows: list[AnyRow]
    parts: list[Part]
    validation_rows: list[AnyRow]
    validation_records: list[Record]
    context_length: int
    devices: int = 1

    @property
    def pad_token_id(self) -> int:
        """Never learned nor seen, so any token will do where the tokenizer names none."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if isinstance(pad, int) else self.template.stop_token_ids[0]

    @property
    def rows_per_step(self) -> int:
        numbers = self.numbers
        rows = numbers.per_device_train_batch_size * numbers.gradient_accumulation_steps
        return rows * self.devices


def read_lessons(job: Job) -> Lessons:
    """Prepare the base model where nobody has, split, render and tokenize."""
    folder = prepare_base_model(job.storage, job.spec.base_model, folder=job.base_model_folder)
    spec = inherited_spec(job)
    tokenizer = load_tokenizer(folder)
    template = template_of(job, spec, folder, tokenizer)
    context = context_length(folder)
    datasets, validation = split(job)
    read = [read_rows(tokenizer, template, each.records) for each in datasets]
    held_out = read_rows(tokenizer, template, validation)
    longest = longest_of(sized.row for own in [*read, held_out] for sized in own)

    def numbers_for(parts: list[Part], validation_examples: int = 0) -> Hyperparameters:
        return resolve_hyperparameters(
            spec,
            examples=rows_in_epoch(parts),
            context_length=context,
            family=template.family,
            parameters=_parameters(spec),
            longest=longest,
            validation_examples=validation_examples,
        )

    limits = limits_of(numbers_for([Part(len(records), weight) for records, weight in datasets]))
    rows = [training_rows(tokenizer, template, own, limits) for own in read]
    if not any(rows):
        raise InvalidData("The dataset has no rows to learn from.")
    parts = [Part(len(own), each.weight) for own, each in zip(rows, datasets, strict=True)]
    kept, records = validation_rows(tokenizer, template, held_out, limits)
    return Lessons(
        folder=folder,
        tokenizer=tokenizer,
        template=template,
        # Again: rows that were left out change the number of steps an epoch has.
        numbers=numbers_for(parts, len(kept)),
        rows=[row for own in rows for row in own],
        parts=parts,
        validation_rows=kept,
        validation_records=records,
        context_length=context,
        devices=spec.devices,
    )


def template_of(
    job: Job, spec: FineTuneSpec, folder: Path, tokenizer: PreTrainedTokenizerBase
) -> PromptTemplate:
    """How the run asks its model; what the spec leaves open is the library's to say."""
    entry = built_in_library().get(spec.base_model)
    usual_prefix = entry.task_prefix if entry else ""
    return make_template(
        spec.base_model,
        usual_prefix if spec.task_prefix is None else spec.task_prefix,
        tokenizer,
        _generation_eos(folder, read_json(folder / "config.json")),
        family=family_of(folder),
        chat_template=job.chat_template or (entry.chat_template if entry else ""),
    )


def _parameters(spec: FineTuneSpec) -> int | None:
    entry = built_in_library().get(spec.base_model)
    return entry.parameters if entry else None


def split(job: Job) -> tuple[list[WeightedRecords], list[Record]]:
    """Datasets to learn from and records to validate on: a source text that is in several datasets
    is on one side in all of them. (Weights do not count here.)"""
    if job.validation is not None:
        return list(job.datasets), job.validation
    held_out = held_out_sources(job.records, share=job.spec.validation_split, seed=job.spec.seed)
    datasets = [
        WeightedRecords([r for r in records if r.source_key not in held_out], weight)
        for records, weight in job.datasets
    ]
    return datasets, [record for record in job.records if record.source_key in held_out]


def _generation_eos(folder: Path, config: dict[str, Any]) -> Any:
    path = folder / "generation_config.json"
    generation = read_json(path) if path.is_file() else {}
    return generation.get("eos_token_id", config.get("eos_token_id"))
