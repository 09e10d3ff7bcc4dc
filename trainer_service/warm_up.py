"""Measures how fast a run would be, by a few real optimizer steps; leaves nothing behind."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from shared.datasets import Record
from shared.preflight import TimeReport
from shared.runs import Hyperparameters
from trainer_service.finetune import train_step
from trainer_service.hardware import Device
from trainer_service.job_files import Job, WeightedRecords
from trainer_service.preflight_reading import Reading
from trainer_service.progress import FORWARD_SHARE, Stopwatch
from trainer_service.reading import limits_of
from trainer_service.training_setup import set_up

log = logging.getLogger(__name__)

STEPS = 3
# A first step that takes longer is the only one.
PATIENCE_SECONDS = 20.0


class Workload(NamedTuple):
    """Tokens of all optimizer steps and of one validation, and how many validations there are."""

    training: int
    validation: int
    validations: int

    @property
    def in_training_tokens(self) -> float:
        return self.training + FORWARD_SHARE * self.validation * self.validations


def measure_run(
    job: Job, reading: Reading, numbers: Hyperparameters, *, device: Device
) -> TimeReport:
    """Make steps of the run that ``numbers`` describe, on rows of usual lengths."""
    limits = limits_of(numbers)
    kept = reading.kept(limits)
    sized = [(sum(each.row.size), each.record) for own in kept for each in own]
    if not sized:
        return TimeReport(measured=False, reason="There is no row to learn from.")
    batch = numbers.per_device_train_batch_size * numbers.gradient_accumulation_steps
    epoch = sum(
        weight * sum(sum(each.row.size) for each in own)
        for own, weight in zip(kept, reading.weights, strict=True)
    )
    workload = Workload(
        training=round(epoch * numbers.num_train_epochs),
        validation=sum(sum(each.row.size) for each in reading.kept_validation(limits)),
        validations=-(-numbers.max_steps // numbers.eval_steps),
    )
    return measure(job, numbers, typical(sized, count=STEPS * batch), workload, device=device)


def measure(
    job: Job,
    numbers: Hyperparameters,
    records: Sequence[Record],
    workload: Workload,
    *,
    device: Device,
) -> TimeReport:
    """Set the run up with some of its ``records`` and make one device's share of some steps; the
    first is not counted where there are others. Seconds of the whole run: setting up, all steps,
    all validations. GPUs are taken to share these evenly; processes on a CPU share its cores, and
    are no faster together."""
    watch = Stopwatch()
    training = set_up(
        _small_job(job, numbers, records), lambda _: None, check=lambda: None, device=device
    )
    set_up_seconds = watch.seconds
    paces: list[tuple[int, float]] = []
    for step in range(STEPS):
        before = training.pace.trained_tokens, training.pace.train_seconds
        train_step(training, step)
        tokens = training.pace.trained_tokens - before[0]
        paces.append((tokens, training.pace.train_seconds - before[1]))
        if paces[-1][1] > PATIENCE_SECONDS:
            break
    counted = paces[1:] or paces
    speed = sum(tokens for tokens, _ in counted) / max(1e-9, sum(took for _, took in counted))
    shared_by = job.spec.devices if device.kind == "cuda" else 1
    return TimeReport(
        measured=True,
        seconds=set_up_seconds + workload.in_training_tokens / max(1e-9, speed * shared_by),
        warm_up_steps=len(paces),
        shared_by=shared_by,
        tokens_per_second=speed * shared_by,
    )


def _small_job(job: Job, numbers: Hyperparameters, records: Sequence[Record]) -> Job:
    """``job`` with few records on one device, every number decided as for all of them."""
    decided = numbers.model_dump(include=set(type(job.spec).model_fields))
    alone: dict[str, Any] = {"validation_split": 0.0, "devices": 1, "sharding": "auto"}
    spec = job.spec.model_copy(update=decided | alone)
    return replace(job, spec=spec, datasets=(WeightedRecords(list(records)),), validation=[])


def typical(sized: Sequence[tuple[int, Record]], *, count: int) -> list[Record]:
    """``count`` records (fewer where there are fewer) from the median length to the 95th
    percentile, evenly apart: neither the shortest nor a single giant."""
    ordered = [record for _, record in sorted(sized, key=lambda each: each[0])]
    upper = ordered[len(ordered) // 2 : max(len(ordered) // 2 + 1, len(ordered) * 95 // 100)]
    if len(upper) <= count:
        return ordered[-count:]
    return [upper[place * len(upper) // count] for place in range(count)]
