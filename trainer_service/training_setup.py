"""Makes everything a run trains with: texts as rows of tokens, then the model and its optimizer."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from shared.datasets import Record
from shared.errors import InvalidData
from shared.hyperparameters import resolve_hyperparameters
from shared.model_library import built_in_library
from shared.prompt_template import PromptTemplate
from shared.run_events import Advanced, Measured
from shared.runs import FineTuneSpec, Hyperparameters
from trainer_service.adapters import add_adapter, learn_whole
from trainer_service.base_models import prepare_base_model
from trainer_service.batching import StepOrder
from trainer_service.continuing import inherited_spec
from trainer_service.data_parallel import Ranks
from trainer_service.fused_layers import fuse_layers
from trainer_service.hardware import (
    Device,
    Precision,
    choose_precision,
    find_cpu,
    keep_small_blocks,
    take_any_length,
    thread_count,
)
from trainer_service.head_loss import Score
from trainer_service.job_files import Job, WeightedRecords, read_json
from trainer_service.mixing import Part, held_out_sources, rows_in_epoch
from trainer_service.modeling import (
    DTYPES,
    context_length,
    family_of,
    load_base,
    load_tokenizer,
    make_template,
    trainable_parameters,
)
from trainer_service.optimization import Optimizer
from trainer_service.progress import Pace, Report
from trainer_service.reading import (
    limits_of,
    longest_of,
    read_rows,
    training_rows,
    validation_rows,
)
from trainer_service.sharding import Whole, mesh_over, shard
from trainer_service.spreading import is_sharded
from trainer_service.standing import Standing
from trainer_service.supervised_loss import Loss, loss_of
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


@dataclass
class Training:
    """A run under way. ``whole`` is how ``model`` is used, which may be sharded."""

    job: Job
    lessons: Lessons
    order: StepOrder
    device: Device
    precision: Precision
    model: Any
    whole: Whole
    loss: Callable[..., Score]
    optimizer: Optimizer
    report: Report
    check: Callable[[], None]
    pace: Pace
    ranks: Ranks
    standing: Standing = field(default_factory=Standing)
    last_step: Measured | None = None
    last_evaluation: Measured | None = None

    @property
    def numbers(self) -> Hyperparameters:
        return self.lessons.numbers


def set_up(
    job: Job,
    report: Report,
    *,
    check: Callable[[], None],
    device: Device,
    ranks: Ranks | None = None,
) -> Training:
    """Tokenize first, so that bad data costs no model load; then load the model and say what of it
    learns."""
    ranks = ranks or Ranks()
    torch.set_num_threads(thread_count())
    keep_small_blocks()
    take_any_length()
    report(Advanced(phase="preparing"))
    lessons = read_lessons(job)
    check()
    report(_data_is_read(lessons))
    precision = _precision(device, lessons)
    ranks = _as_spread(job, lessons, device, ranks)
    whole, loss = _load_model(job, lessons, device, precision, ranks)
    model = whole.model
    if not ranks.leads:
        # Weights begin alike everywhere; what drops out does not.
        torch.manual_seed(job.spec.seed + ranks.rank)
    optimizer = Optimizer(
        trainable_parameters(model),
        lessons.numbers,
        device=device,
        precision=precision,
        pad_token_id=lessons.pad_token_id,
        keep_gradients=job.spec.method != "full" and not ranks.sharded,
        packs=loss.packs and precision == "fp32",
        ranks=ranks,
    )
    return Training(
        job=job,
        lessons=lessons,
        order=_order(lessons, seed=job.spec.seed),
        device=device,
        precision=precision,
        model=model,
        whole=whole,
        loss=partial(whole, loss),
        optimizer=optimizer,
        report=report,
        check=check,
        pace=Pace(),
        ranks=ranks,
    )


def _as_spread(job: Job, lessons: Lessons, device: Device, ranks: Ranks) -> Ranks:
    """``ranks``, with whether they share the model."""
    rows = [*lessons.rows, *lessons.validation_rows]
    sharded = is_sharded(job.spec, lessons.folder, lessons.numbers, rows, device, ranks)
    return replace(ranks, sharded=sharded)


def _data_is_read(lessons: Lessons) -> Advanced:
    return Advanced(
        phase="loading_model",
        hyperparameters=lessons.numbers.model_dump(),
        train_examples=len(lessons.rows),
        validation_examples=len(lessons.validation_rows),
    )


def _precision(device: Device, lessons: Lessons) -> Precision:
    """The device's, except that the numbers inside T5 leave the range of fp16."""
    precision = choose_precision(device)
    return "fp32" if precision == "fp16" and lessons.template.family == "seq2seq" else precision


def _order(lessons: Lessons, *, seed: int) -> StepOrder:
    return StepOrder(
        [sum(row.size) for row in lessons.rows],
        rows_per_step=lessons.rows_per_step,
        seed=seed,
        parts=lessons.parts,
    )


def _load_model(
    job: Job, lessons: Lessons, device: Device, precision: Precision, ranks: Ranks
) -> tuple[Whole, Loss]:
    """The model that learns (the base model, or an adapter over it) and its loss. One that will be
    sharded is loaded into the host's memory, by one process after the other."""
    method = job.spec.method
    home = find_cpu() if ranks.sharded else device
    mesh = mesh_over(ranks, device) if ranks.sharded else None
    compute = DTYPES[precision] if mesh is not None and precision != "fp32" else None
    with ranks.in_turn() if ranks.sharded else contextlib.nullcontext():
        base = load_base(lessons.folder, method=method, device=home, precision=precision)
        learn = learn_whole if method == "full" else add_adapter
        model = learn(base, lessons.numbers, seed=job.spec.seed)
        if compute is None:
            fuse_layers(base)
        loss = loss_of(base)
        whole = Whole(model) if mesh is None else shard(model, mesh, compute)
    return whole, loss


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

    def numbers_for(parts: list[Part]) -> Hyperparameters:
        return resolve_hyperparameters(
            spec,
            examples=rows_in_epoch(parts),
            context_length=context,
            family=template.family,
            parameters=_parameters(spec),
            longest=longest,
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
        numbers=numbers_for(parts),
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
