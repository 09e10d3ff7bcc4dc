"""A run whose validation loss rises after a while, and what it said; no fixture, no test."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from shared.datasets import Record
from shared.run_events import Checkpointed, Finished, Measured, Payload
from shared.storage import Storage
from tests.trainer_service.runs import make_job, small_records
from trainer_service import exit_codes
from trainer_service.finetune import fine_tune
from trainer_service.hardware import Device
from trainer_service.job_files import Job, WeightedRecords

CPU = Device(kind="cpu", name="a cpu", memory_bytes=1)


ADAPTER = "adapter_model.safetensors"


def train(
    job: Job,
    *,
    preempt_after: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[list[Payload], Finished | None]:
    """Train; preempted once so many steps are measured, if that is given."""
    events: list[Payload] = []

    def check() -> None:
        if preempt_after is not None and len(measured(events)) >= preempt_after:
            raise exit_codes.Preempted

    try:
        return events, fine_tune(job, events.append, check=check, stop=stop, device=CPU)
    except exit_codes.Preempted:
        return events, None


def measured(events: list[Payload]) -> list[Measured]:
    return [event for event in events if isinstance(event, Measured) and event.loss is not None]


def evaluations(events: list[Payload]) -> dict[int, float]:
    return {
        event.step: event.eval_loss
        for event in events
        if isinstance(event, Measured) and event.eval_loss is not None
    }


def checkpoints(events: list[Payload]) -> list[Checkpointed]:
    return [event for event in events if isinstance(event, Checkpointed)]


def spoiling_job(storage: Storage, name: str = "run_a", **spec: Any) -> Job:
    """Its validation contradicts what it learns: after a while each step makes that worse."""
    wrong = [Record.from_pair(f"say {n}", f"no, {9 - n}?") for n in range(6)]
    numbers = {"max_steps": 40, "eval_steps": 2, "learning_rate": 3e-2, "save_steps": 1000}
    job = make_job(storage, name, **(numbers | spec))
    return replace(job, datasets=(WeightedRecords(small_records(8)),), validation=wrong)
