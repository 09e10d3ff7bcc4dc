"""Makes everything a run trains with, from its rows: the model, its loss and its optimizer."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from shared.run_events import Advanced, Measured
from shared.runs import Hyperparameters
from trainer_service.adapters import add_adapter, learn_whole
from trainer_service.batching import StepOrder
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
from trainer_service.job_files import Job
from trainer_service.lessons import Lessons, read_lessons
from trainer_service.modeling import (
    DTYPES,
    load_base,
    trainable_parameters,
)
from trainer_service.optimization import Optimizer
from trainer_service.progress import Pace, Report
from trainer_service.sharding import Whole, mesh_over, shard
from trainer_service.spreading import is_sharded
from trainer_service.standing import Standing
from trainer_service.supervised_loss import Loss, loss_of


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
        pace=Pace(sum(sum(row.size) for row in lessons.validation_rows)),
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
