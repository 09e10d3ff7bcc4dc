"""Makes everything a run trains with: texts as rows of tokens, then the model and its optimizer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from shared.datasets import Record
from shared.errors import InvalidData
from shared.prompt_template import PromptTemplate
from shared.run_events import Advanced, Measured
from shared.runs import Hyperparameters, resolve_hyperparameters
from trainer_service.base_models import prepare_base_model
from trainer_service.batching import StepOrder
from trainer_service.hardware import Device, Precision, choose_precision, thread_count
from trainer_service.job_files import Job, read_json
from trainer_service.modeling import (
    adapter_parameters,
    add_adapter,
    context_length,
    load_base,
    load_tokenizer,
    make_template,
)
from trainer_service.optimization import Optimizer
from trainer_service.progress import Pace, Report
from trainer_service.standing import Standing
from trainer_service.supervised_loss import SupervisedLoss
from trainer_service.tokenizing import (
    Row,
    split_by_source,
    tokenize_records,
    tokenize_validation,
)


@dataclass(frozen=True)
class Lessons:
    """The data of a run as its base model reads it. Of ``validation_records`` answers may be
    written: no row of theirs was left out."""

    folder: Path
    tokenizer: PreTrainedTokenizerBase
    template: PromptTemplate
    numbers: Hyperparameters
    rows: list[Row]
    validation_rows: list[Row]
    validation_records: list[Record]

    @property
    def pad_token_id(self) -> int:
        """Never learned nor seen, so any token will do where the tokenizer names none."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if isinstance(pad, int) else self.template.stop_token_ids[0]

    @property
    def rows_per_step(self) -> int:
        return self.numbers.per_device_train_batch_size * self.numbers.gradient_accumulation_steps


@dataclass
class Training:
    """A run under way."""

    job: Job
    lessons: Lessons
    order: StepOrder
    device: Device
    precision: Precision
    model: PeftModel
    loss: SupervisedLoss
    optimizer: Optimizer
    report: Report
    check: Callable[[], None]
    pace: Pace
    standing: Standing = field(default_factory=Standing)
    last_step: Measured | None = None
    last_evaluation: Measured | None = None

    @property
    def numbers(self) -> Hyperparameters:
        return self.lessons.numbers


def set_up(job: Job, report: Report, *, check: Callable[[], None], device: Device) -> Training:
    """Tokenize first, so that bad data costs no model load; then load, freeze, add the adapter."""
    torch.set_num_threads(thread_count())
    report(Advanced(phase="preparing"))
    lessons = read_lessons(job)
    check()
    report(
        Advanced(
            phase="loading_model",
            hyperparameters=lessons.numbers.model_dump(),
            train_examples=len(lessons.rows),
            validation_examples=len(lessons.validation_rows),
        )
    )
    precision = choose_precision(device)
    base = load_base(lessons.folder, method=job.spec.method, device=device, precision=precision)
    model = add_adapter(base, lessons.numbers, seed=job.spec.seed)
    optimizer = Optimizer(
        adapter_parameters(model),
        lessons.numbers,
        device=device,
        precision=precision,
        pad_token_id=lessons.pad_token_id,
    )
    return Training(
        job=job,
        lessons=lessons,
        order=StepOrder(
            [len(row.tokens) for row in lessons.rows],
            rows_per_step=lessons.rows_per_step,
            seed=job.spec.seed,
        ),
        device=device,
        precision=precision,
        model=model,
        loss=SupervisedLoss(base),
        optimizer=optimizer,
        report=report,
        check=check,
        pace=Pace(),
    )


def read_lessons(job: Job) -> Lessons:
    """Prepare the base model where nobody has, split, render and tokenize."""
    spec = job.spec
    folder = prepare_base_model(job.storage, spec.base_model, folder=job.base_model_folder)
    tokenizer = load_tokenizer(folder)
    config = read_json(folder / "config.json")
    template = make_template(
        spec.base_model, spec.task_prefix or "", tokenizer, _generation_eos(folder, config)
    )
    context = context_length(folder)
    records, validation = _split(job)
    numbers = resolve_hyperparameters(spec, examples=len(records), context_length=context)
    rows = tokenize_records(tokenizer, template, records, max_length=numbers.max_length)
    if not rows:
        raise InvalidData("The dataset has no rows to learn from.")
    validation_rows, validation_records = tokenize_validation(
        tokenizer, template, validation, max_length=numbers.max_length
    )
    return Lessons(
        folder=folder,
        tokenizer=tokenizer,
        template=template,
        # Again: rows that were left out change the number of steps an epoch has.
        numbers=resolve_hyperparameters(spec, examples=len(rows), context_length=context),
        rows=rows,
        validation_rows=validation_rows,
        validation_records=validation_records,
    )


def _split(job: Job) -> tuple[list[Record], list[Record]]:
    if job.validation is not None:
        return job.records, job.validation
    return split_by_source(job.records, share=job.spec.validation_split, seed=job.spec.seed)


def _generation_eos(folder: Path, config: dict[str, Any]) -> Any:
    path = folder / "generation_config.json"
    generation = read_json(path) if path.is_file() else {}
    return generation.get("eos_token_id", config.get("eos_token_id"))
