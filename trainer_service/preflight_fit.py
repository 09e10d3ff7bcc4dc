"""Whether a run fits into a device's memory, and which settings would make it fit. Arithmetic."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from shared.memory import (
    USABLE_SHARE,
    Longest,
    MemoryEstimate,
    Model,
    estimate,
    fits,
    model_of,
)
from shared.model_library import built_in_library
from shared.preflight import MemoryReport
from shared.runs import Hyperparameters, Method
from trainer_service.hardware import Device, choose_precision

Changes = dict[str, Any]


class Plan(NamedTuple):
    """A run as far as its memory goes. ``shorter``: of 100 rows, 95 are not longer."""

    model: Model
    method: Method
    numbers: Hyperparameters
    longest: Longest | None = None
    shorter: int | None = None

    def with_changes(self, changes: Changes) -> "Plan":
        numbers = {
            key: value for key, value in changes.items() if key in type(self.numbers).model_fields
        }
        longest = self.longest
        if longest is not None and "max_length" in changes:
            longest = Longest(min(longest.row, changes["max_length"]), longest.target)
        return self._replace(
            method=changes.get("method", self.method),
            numbers=self.numbers.model_copy(update=numbers),
            longest=longest,
        )


def look_at_memory(plan: Plan, device: Device) -> MemoryReport:
    need = _need(plan, device)
    changes = None if fits(need, device.memory_bytes) else _way_out(plan, device)
    then = None if changes is None else _need(_changed(plan, changes), device)
    return MemoryReport(
        device=device.label,
        kind=device.kind,
        precision=choose_precision(device),
        available_bytes=device.memory_bytes,
        need=need,
        fits=fits(need, device.memory_bytes),
        changes=changes,
        then=then,
        sentence=_sentence(need, device, changes, then),
    )


def _need(plan: Plan, device: Device) -> MemoryEstimate:
    return estimate(
        plan.model,
        plan.method,
        plan.numbers,
        device=device.kind,
        precision=choose_precision(device),
        longest=plan.longest,
    )


def _fits(plan: Plan, device: Device) -> bool:
    return fits(_need(plan, device), device.memory_bytes)


def _way_out(plan: Plan, device: Device) -> Changes | None:
    """The mildest settings that make the run fit: one after the other is added, then those are
    taken back that the last one made needless."""
    changes: Changes = {}
    for step in _steps(plan, device):
        changes |= step
        if _fits(plan.with_changes(changes), device):
            return _only_needed(plan, device, changes)
    return _smaller_model(plan, device)


def _steps(plan: Plan, device: Device) -> Iterator[Changes]:
    rows, accumulation = (
        plan.numbers.per_device_train_batch_size,
        plan.numbers.gradient_accumulation_steps,
    )
    batch = rows
    while batch > 1:
        batch = (batch + 1) // 2
        yield {
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": -(-rows * accumulation // batch),
        }
    if not plan.numbers.gradient_checkpointing:
        yield {"gradient_checkpointing": True}
    if plan.shorter is not None and 16 <= plan.shorter < plan.numbers.max_length:
        yield {"max_length": plan.shorter}
    if plan.method != "qlora" and device.kind != "mps":
        yield {"method": "qlora"}
    elif plan.method == "full":
        yield {"method": "lora"}


def _only_needed(plan: Plan, device: Device, changes: Changes) -> Changes:
    """A batch and its accumulation go together."""
    groups: list[tuple[str, ...]] = [("per_device_train_batch_size", "gradient_accumulation_steps")]
    groups += [(name,) for name in changes if name not in groups[0]]
    for group in groups:
        fewer = {name: value for name, value in changes.items() if name not in group}
        if fewer and _fits(plan.with_changes(fewer), device):
            changes = fewer
    return changes


def _smaller_model(plan: Plan, device: Device) -> Changes | None:
    """The largest model of the library that fits with the settings as they were."""
    fitting = [
        (entry.parameters or 0, entry.id)
        for entry in built_in_library().values()
        if entry.family == plan.model.family
        and (model := model_of(entry)) is not None
        and _fits(plan._replace(model=model), device)
    ]
    return {"base_model": max(fitting)[1]} if fitting else None


def _changed(plan: Plan, changes: Changes) -> Plan:
    if "base_model" not in changes:
        return plan.with_changes(changes)
    model = model_of(built_in_library()[changes["base_model"]])
    return plan if model is None else plan._replace(model=model)


def _sentence(
    need: MemoryEstimate, device: Device, changes: Changes | None, then: MemoryEstimate | None
) -> str:
    room = f"{device.label} has {gigabytes(device.memory_bytes)}, of which a run may plan with "
    room += gigabytes(USABLE_SHARE * device.memory_bytes)
    says = f"The run needs about {gigabytes(need.total)}; {room}."
    if fits(need, device.memory_bytes):
        return f"{says} It fits."
    if changes is None or then is None:
        return f"{says} It does not fit, nor does any model of the library: use a larger device."
    settings = ", ".join(f"{name} {_written(value)}" for name, value in changes.items())
    return f"{says} It does not fit. It would with {settings}: about {gigabytes(then.total)}."


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
