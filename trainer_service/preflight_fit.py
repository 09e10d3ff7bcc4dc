"""Whether a run fits into a device's memory, and which settings would make it fit. Arithmetic."""

from collections.abc import Iterator
from typing import Any

from shared.memory import USABLE_SHARE, model_of
from shared.model_library import built_in_library
from shared.preflight import MemoryReport
from trainer_service.hardware import Device, choose_precision
from trainer_service.spreading import Changes, Plan, fits_on, need_of, room_of, spread_of


def look_at_memory(plan: Plan, device: Device) -> MemoryReport:
    need, suits = need_of(plan, device), fits_on(plan, device)
    changes = None if suits else _way_out(plan, device)
    changed = None if changes is None else _changed(plan, changes)
    spread = spread_of(plan, device)
    return MemoryReport(
        device=device.label,
        kind=device.kind,
        precision=choose_precision(device),
        available_bytes=device.memory_bytes,
        need=need,
        fits=suits,
        devices=spread.devices,
        sharded=spread.sharded,
        changes=changes,
        then=None if changed is None else need_of(changed, device),
        sentence=" ".join([_says(plan, device), _advice(suits, device, changes, changed)]),
    )


def _way_out(plan: Plan, device: Device) -> Changes | None:
    """The mildest settings that make the run fit: one after the other is added, then those are
    taken back that the last one made needless."""
    changes: Changes = {}
    for step in _steps(plan, device):
        changes |= step
        if fits_on(plan.with_changes(changes), device):
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
    yield from _spreads(plan, device)
    if not plan.numbers.gradient_checkpointing:
        yield {"gradient_checkpointing": True}
    if plan.shorter is not None and 16 <= plan.shorter < plan.numbers.max_length:
        yield {"max_length": plan.shorter}
    if plan.method != "qlora" and device.kind != "mps":
        yield {"method": "qlora"}
    elif plan.method == "full":
        yield {"method": "lora"}


def _spreads(plan: Plan, device: Device) -> Iterator[Changes]:
    """Other numbers of devices. Processes on a CPU share its memory: one needs the least."""
    free: Changes = {} if plan.sharding == "auto" else {"sharding": "auto"}
    if device.kind != "cuda":
        if plan.devices > 1:
            yield {"devices": 1} | free
    elif plan.method != "qlora":
        if plan.devices > 1 and plan.sharding == "none":
            yield free
        for devices in range(plan.devices + 1, device.count + 1):
            yield {"devices": devices} | free


def _only_needed(plan: Plan, device: Device, changes: Changes) -> Changes:
    """A batch and its accumulation go together."""
    groups: list[tuple[str, ...]] = [("per_device_train_batch_size", "gradient_accumulation_steps")]
    groups += [(name,) for name in changes if name not in groups[0]]
    for group in groups:
        fewer = {name: value for name, value in changes.items() if name not in group}
        if fewer and fits_on(plan.with_changes(fewer), device):
            changes = fewer
    return changes


def _smaller_model(plan: Plan, device: Device) -> Changes | None:
    """The largest model of the library that fits with the settings as they were."""
    fitting = [
        (entry.parameters or 0, entry.id)
        for entry in built_in_library().values()
        if entry.family == plan.model.family
        and (model := model_of(entry)) is not None
        and fits_on(plan._replace(model=model), device)
    ]
    return {"base_model": max(fitting)[1]} if fitting else None


def _changed(plan: Plan, changes: Changes) -> Plan:
    if "base_model" not in changes:
        return plan.with_changes(changes)
    model = model_of(built_in_library()[changes["base_model"]])
    return plan if model is None else plan._replace(model=model)


def _says(plan: Plan, device: Device) -> str:
    need, spread = need_of(plan, device), spread_of(plan, device)
    needs = f"The run needs about {gigabytes(need.total)}"
    if spread.devices > 1:
        needs += f" on each of {spread.devices} devices"
        needs += ", among which the model is divided" if spread.sharded else ""
    share = "a run" if spread.devices == 1 or device.kind == "cuda" else "each process"
    room = gigabytes(USABLE_SHARE * room_of(plan, device))
    has = f"{device.label} has {gigabytes(device.memory_bytes)}"
    return f"{needs}; {has}, of which {share} may plan with {room}."


def _advice(suits: bool, device: Device, changes: Changes | None, changed: Plan | None) -> str:
    if suits:
        return "It fits."
    if changes is None or changed is None:
        return "It does not fit, nor does any model of the library: use a larger device."
    settings = ", ".join(f"{name} {_written(value)}" for name, value in changes.items())
    then = gigabytes(need_of(changed, device).total)
    return f"It does not fit. It would with {settings}: about {then}."


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
