"""The recipe as tests run it, and what it said; no fixture, no test."""

from collections.abc import Callable

from shared.run_events import Finished, Measured, Payload
from trainer_service import exit_codes
from trainer_service.finetune import fine_tune
from trainer_service.hardware import Device
from trainer_service.job_files import Job

CPU = Device(kind="cpu", name="a cpu", memory_bytes=1)


def train(
    job: Job, *, check: Callable[[], None] = lambda: None, device: Device = CPU
) -> tuple[list[Payload], Finished | None]:
    events: list[Payload] = []
    try:
        return events, fine_tune(job, events.append, check=check, device=device)
    except exit_codes.Preempted:
        return events, None


def losses(events: list[Payload]) -> dict[int, float]:
    return {
        event.step: event.loss
        for event in events
        if isinstance(event, Measured) and event.loss is not None
    }


def stop_after(calls: int) -> Callable[[], None]:
    """A check that asks to stop at its n-th call."""
    left = [calls]

    def check() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise exit_codes.Preempted

    return check
