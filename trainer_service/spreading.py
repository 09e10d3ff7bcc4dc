"""How a run lies on its devices and what it needs on each; knows no data but the rows' lengths."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from shared.memory import Longest, MemoryEstimate, Model, estimate, fits
from shared.model_shapes import shape_from_config
from shared.runs import FineTuneSpec, Hyperparameters, Method, Sharding
from shared.spread import Spread, may_shard, per_device, room
from trainer_service.data_parallel import Ranks
from trainer_service.hardware import Device, choose_precision
from trainer_service.job_files import read_json
from trainer_service.reading import longest_of
from trainer_service.tokenizing import AnyRow

log = logging.getLogger(__name__)

Changes = dict[str, Any]


class Plan(NamedTuple):
    """A run as far as its memory goes. ``shorter``: of 100 rows, 95 are not longer."""

    model: Model
    method: Method
    numbers: Hyperparameters
    longest: Longest | None = None
    shorter: int | None = None
    devices: int = 1
    sharding: Sharding = "auto"

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
            devices=changes.get("devices", self.devices),
            sharding=changes.get("sharding", self.sharding),
        )


def need_of(plan: Plan, device: Device) -> MemoryEstimate:
    """What the run needs on each device, laid on them as `spread_of` says."""
    return _need(plan, device, spread_of(plan, device))


def fits_on(plan: Plan, device: Device) -> bool:
    return fits(need_of(plan, device), room_of(plan, device))


def room_of(plan: Plan, device: Device) -> int:
    return room(device.memory_bytes, device.kind, plan.devices)


def spread_of(plan: Plan, device: Device) -> Spread:
    """THE rule of ``sharding: auto``: a model is sharded where a device could not hold the run
    otherwise."""
    whole = Spread(plan.devices)
    if not may_shard(plan.devices, plan.method, plan.sharding):
        return whole
    if plan.sharding == "auto" and fits(_need(plan, device, whole), room_of(plan, device)):
        return whole
    return Spread(plan.devices, sharded=True)


def is_sharded(
    spec: FineTuneSpec,
    folder: Path,
    numbers: Hyperparameters,
    rows: Iterable[AnyRow],
    device: Device,
    ranks: Ranks,
) -> bool:
    """Whether the processes that train share the model in ``folder``: the same for all of them."""
    if ranks.size == 1:
        return False
    wanted = spec.sharding == "full"
    if (model := model_in(folder)) is not None:
        longest = longest_of(rows)
        plan = Plan(model, spec.method, numbers, longest, None, ranks.size, spec.sharding)
        wanted = spread_of(plan, device).sharded
    # (One device may have more memory than another.)
    sharded = bool(ranks.agree(int(wanted)))
    if sharded:
        log.info("The model is sharded: each of %d devices holds a part of it.", ranks.size)
    return sharded


def _need(plan: Plan, device: Device, spread: Spread) -> MemoryEstimate:
    precision = choose_precision(device)
    alone = estimate(
        plan.model,
        plan.method,
        plan.numbers,
        device=device.kind,
        precision=precision,
        longest=plan.longest,
    )
    return per_device(alone, plan.model, plan.method, precision, spread)


def model_in(folder: Path) -> Model | None:
    """What the config of a prepared base model tells of its shape."""
    config = read_json(folder / "config.json")
    shape = shape_from_config(config)
    if shape is None:
        return None
    names = config.get("architectures")
    architecture = str(names[0]) if isinstance(names, list) and names else None
    seq2seq = config.get("is_encoder_decoder") is True
    return Model(shape, architecture, "seq2seq" if seq2seq else "causal")
