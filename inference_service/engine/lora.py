"""Adapters over shared base weights: each row of a batch may use another one, or none.

Knows nothing of requests. All adapters of a batch are laid side by side, so that a layer costs two
small products however many there are, and a mask keeps each row to the columns of its own.
"""

import json
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from shared.errors import InvalidData

Pair = tuple[Tensor, Tensor]
PREFIX = "base_model.model."
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CACHED_SETS = 4

# What would change the result and is not computed here. Each is fine while it has this value.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "layer_replication": (None,),
    "trainable_token_indices": (None,),
    "lora_bias": (False, None),
    "alora_invocation_tokens": (None,),
    "target_parameters": (None, []),
}


@dataclass(frozen=True, eq=False)
class Adapter:
    """LoRA weights by module: [in, rank] and [rank, out], the scale multiplied into the second."""

    rank: int
    pairs: Mapping[str, Pair]


class LoraState:
    """Which adapters the next forward pass uses; shared by all projections of one base model."""

    def __init__(self) -> None:
        self.pairs: Mapping[str, Pair] = {}
        self.mask: Tensor | None = None
        self._sets: OrderedDict[tuple[Adapter, ...], Mapping[str, Pair]] = OrderedDict()

    def select(self, rows: Sequence[Adapter | None], dtype: torch.dtype) -> None:
        """Give each row of the next pass its adapter (None: the base model alone)."""
        members = {adapter for adapter in rows if adapter is not None}
        distinct = tuple(sorted(members, key=id))
        self.mask = None
        if not distinct:
            self.pairs = {}
            return
        self.pairs = self._side_by_side(distinct)
        if len(distinct) > 1 or None in rows:
            self.mask = torch.zeros(len(rows), sum(a.rank for a in distinct), dtype=dtype)
            starts, start = {}, 0
            for adapter in distinct:
                starts[adapter] = start
                start += adapter.rank
            for row, own in enumerate(rows):
                if own is not None:
                    self.mask[row, starts[own] : starts[own] + own.rank] = 1
            self.mask = self.mask.to(next(iter(self.pairs.values()))[0].device)

    def forget(self, adapter: Adapter) -> None:
        """Let go of an adapter's memory."""
        for members in [members for members in self._sets if adapter in members]:
            del self._sets[members]
        self.pairs = {}

    def _side_by_side(self, adapters: tuple[Adapter, ...]) -> Mapping[str, Pair]:
        if len(adapters) == 1:
            return adapters[0].pairs
        if adapters not in self._sets:
            self._sets[adapters] = _concatenate(adapters)
            while len(self._sets) > CACHED_SETS:
                self._sets.popitem(last=False)
        self._sets.move_to_end(adapters)
        return self._sets[adapters]


class Projection(nn.Module):
    """A linear layer of the base model, with the selected adapters on top.

    The weight lies transposed, [in, out]: with the few rows of a decoding step the product runs up
    to twice as fast that way on CPUs.
    """

    def __init__(self, linear: nn.Linear, name: str, lora: LoraState) -> None:
        super().__init__()
        self.in_features, self.out_features, self.name = (
            linear.in_features,
            linear.out_features,
            name,
        )
        self.weight = nn.Parameter(linear.weight.detach().t().contiguous(), requires_grad=False)
        self.bias = linear.bias
        self._lora = lora

    def forward(self, inputs: Tensor) -> Tensor:
        flat = inputs.reshape(-1, self.in_features)
        if self.bias is None:
            output = flat @ self.weight
        else:
            output = torch.addmm(self.bias, flat, self.weight)
        pair = self._lora.pairs.get(self.name)
        if pair is not None:
            low = flat @ pair[0]
            if self._lora.mask is not None:
                low *= self._lora.mask
            output.addmm_(low, pair[1])
        return output.view(*inputs.shape[:-1], self.out_features)


def load_adapter(folder: Path, modules: Mapping[str, Projection]) -> Adapter:
    """Read a run's adapter and check every name and shape of it against the base model's layers."""
    rank, scale = _read_config(folder / CONFIG_FILE)
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise InvalidData(
            f"The adapter's {WEIGHTS_FILE} cannot be read.", code="bad_adapter"
        ) from error
    pairs: dict[str, Pair] = {}
    for name in sorted({_module_of(key) for key in tensors}):
        module = modules.get(name)
        down = tensors.get(f"{PREFIX}{name}.lora_A.weight")
        up = tensors.get(f"{PREFIX}{name}.lora_B.weight")
        if module is None or down is None or up is None:
            raise _bad(f"it changes {name!r}, which is no linear layer of this base model")
        if down.shape != (rank, module.in_features) or up.shape != (module.out_features, rank):
            raise _bad(f"the shapes for {name!r} do not fit this base model")
        pairs[name] = (
            # (Some layers of a half precision model are kept in fp32: T5's `wo`.)
            down.to(module.weight).t().contiguous(),
            (up.to(module.weight.device, torch.float32) * scale).to(module.weight).t().contiguous(),
        )
    if not pairs:
        raise _bad("it holds no weights")
    if not all(torch.isfinite(tensor).all() for pair in pairs.values() for tensor in pair):
        raise _bad("its weights are not all finite numbers")
    return Adapter(rank=rank, pairs=pairs)


def _read_config(path: Path) -> tuple[int, float]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidData(
            f"The adapter's {CONFIG_FILE} cannot be read.", code="bad_adapter"
        ) from error
    if config.get("peft_type") != "LORA" or rank < 1:
        raise _bad("it is not a LoRA adapter")
    for key, neutral in _NEUTRAL.items():
        if key in config and config[key] not in neutral:
            raise _bad(f"its setting {key!r} is not supported here")
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _module_of(key: str) -> str:
    for suffix in (".lora_A.weight", ".lora_B.weight"):
        if key.startswith(PREFIX) and key.endswith(suffix):
            return key[len(PREFIX) : -len(suffix)]
    raise _bad(f"it holds an unknown tensor {key[:100]!r}")


def _bad(reason: str) -> InvalidData:
    return InvalidData(f"The adapter cannot be used: {reason}.", code="bad_adapter")


def _concatenate(adapters: Sequence[Adapter]) -> Mapping[str, Pair]:
    result: dict[str, Pair] = {}
    for name in sorted({name for adapter in adapters for name in adapter.pairs}):
        like = next(a.pairs[name] for a in adapters if name in a.pairs)
        parts = [a.pairs.get(name) or _nothing(like, a.rank) for a in adapters]
        result[name] = (
            torch.cat([down for down, _ in parts], dim=1),
            torch.cat([up for _, up in parts], dim=0),
        )
    return result


def _nothing(like: Pair, rank: int) -> Pair:
    """Weights that add nothing, for a module that an adapter leaves alone."""
    return like[0].new_zeros(like[0].shape[0], rank), like[1].new_zeros(rank, like[1].shape[1])
