"""A LoRA projection as one step of autograd; same numbers as PEFT's, fewer passes over memory.

PEFT adds the adapter's share with separate products, scalings and sums of full-size activations;
on CPUs these cost a good part of a small model's time, and over four-bit weights so much memory
that QLoRA would need more than LoRA. On GPUs each is a kernel of its own, and each projection keeps
another copy of its input, since PEFT casts it to the adapter's fp32 and autocast back again. The
modules stay PEFT's: only their forward is replaced, so saving and loading are unchanged.
"""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, Protocol

import torch
from bitsandbytes import functional as quantized
from bitsandbytes.nn.modules import Linear4bit
from peft.tuners.lora import Linear as PeftLinear
from peft.tuners.lora import Linear4bit as PeftLinear4bit
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from trainer_service.head_loss import compute_dtype

# Names of projections that one layer applies to the same input.
SAME_INPUT = (
    ("q_proj", "k_proj", "v_proj"),
    ("gate_proj", "up_proj"),
    ("q", "k", "v"),
    ("wi_0", "wi_1"),
)


class FrozenWeight(Protocol):
    """A weight that does not learn: whole, or made whole each time that it is asked for."""

    def __call__(self) -> torch.Tensor: ...


class _Projection(NamedTuple):
    """What of a projection does not learn; ``rank`` is its adapter's."""

    weight: FrozenWeight
    dtype: torch.dtype
    bias: torch.Tensor | None
    scale: float
    rank: int


class _LoraLinears(torch.autograd.Function):
    """``x W' + bias + scale * (x A') B'`` of one or several projections of the same ``x``, where W
    and bias do not learn.

    Several have one product for all their A, and the gradients of ``x`` are summed where they are
    made. Weights are called for in either direction: what that makes is never kept between them.
    Products are made in autocast's number format, else in W's; adapters learn in their own.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, projections: Sequence[_Projection], *adapters: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """``adapters``: A and B of the first projection, of the second, ..."""
        compute = compute_dtype(x.device, projections[0].dtype)
        flat = x.reshape(-1, x.shape[-1]).to(compute)
        down = _stacked(adapters[::2]).to(compute)
        ups = [up.to(compute) for up in adapters[1::2]]
        inner = flat @ down.T
        results = []
        for each, up, part in zip(projections, ups, _parts(inner, projections), strict=True):
            result = functional.linear(flat, each.weight().to(compute), each.bias)
            result.addmm_(part, up.T, alpha=each.scale)
            results.append(result.view(*x.shape[:-1], -1))
        ctx.save_for_backward(flat, inner, down, *ups)
        ctx.projections = projections
        ctx.shape = x.shape
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flat, inner, down, *ups = ctx.saved_tensors
        projections: Sequence[_Projection] = ctx.projections
        rows = [gradient.reshape(-1, gradient.shape[-1]) for gradient in gradients]
        to_inner = torch.cat(
            [
                _product(row, up, each.scale)
                for row, up, each in zip(rows, ups, projections, strict=True)
            ],
            dim=1,
        )
        to_ups = [
            _product(row.T, part, each.scale)
            for row, part, each in zip(rows, _parts(inner, projections), projections, strict=True)
        ]
        to_downs = (to_inner.T @ flat).split([each.rank for each in projections])
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = to_inner @ down
            for row, each in zip(rows, projections, strict=True):
                to_x.addmm_(row, each.weight().to(row.dtype))
            to_x = to_x.view(ctx.shape)
        to_adapters = chain.from_iterable(zip(to_downs, to_ups, strict=True))
        return to_x, None, *to_adapters


def _product(left: torch.Tensor, right: torch.Tensor, scale: float) -> torch.Tensor:
    """``scale * (left @ right)`` in one step. (With a beta of 0 the first argument is not read.)"""
    return torch.addmm(left.new_empty(()), left, right, beta=0, alpha=scale)


def _stacked(downs: Sequence[torch.Tensor]) -> torch.Tensor:
    return downs[0] if len(downs) == 1 else torch.cat(list(downs))


def _parts(inner: torch.Tensor, projections: Sequence[_Projection]) -> Sequence[torch.Tensor]:
    parts: Sequence[torch.Tensor] = torch.split(inner, [each.rank for each in projections], dim=1)
    return parts


def _project(modules: Sequence[Any], x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    projections, adapters = [], []
    for module in modules:
        base, down = module.base_layer, module.lora_A["default"].weight
        projections.append(
            _Projection(*_frozen(base), base.bias, module.scaling["default"], down.shape[0])
        )
        adapters += [down, module.lora_B["default"].weight]
    results: tuple[torch.Tensor, ...] = _LoraLinears.apply(  # type: ignore[no-untyped-call]
        x, projections, *adapters
    )
    return results


class _Siblings:
    """Projections that a layer's code calls one after the other with the same input. The first
    call computes all; the others take what waits for them."""

    def __init__(self, modules: Sequence[Any]) -> None:
        self.modules = list(modules)
        self.input: torch.Tensor | None = None
        self.waiting: dict[Any, torch.Tensor] = {}

    def project(self, module: Any, x: torch.Tensor) -> torch.Tensor:
        if x is not self.input or module not in self.waiting:
            if self.waiting:
                # Nobody came for what waits: here each has an input of its own.
                self.modules = []
            modules = self.modules or [module]
            self.waiting = dict(zip(modules, _project(modules, x), strict=True))
        result = self.waiting.pop(module)
        # Kept no longer than anything waits: with its input a whole layer's graph stays alive.
        self.input = x if self.waiting else None
        return result


def _frozen(base: Any) -> tuple[FrozenWeight, torch.dtype]:
    """How to get a layer's weight, and the number format that it comes in."""
    weight = base.weight
    if not isinstance(base, Linear4bit):
        return lambda: weight.detach(), weight.dtype
    state = weight.quant_state
    return lambda: quantized.dequantize_4bit(weight.data, state), state.dtype


def fuse_lora(model: nn.Module) -> int:
    """Give the model's LoRA projections the fused forward, where it means the same: over a plain
    or a four-bit linear layer, without dropout. Returns how many took it."""
    left = {
        module
        for module in model.modules()
        if type(module) in (PeftLinear, PeftLinear4bit) and _is_plain(module)
    }
    fused = len(left)
    for parent in list(model.modules()):
        for names in SAME_INPUT:
            siblings = [child for name, child in parent.named_children() if name in names]
            _fuse([each for each in siblings if each in left])
            left.difference_update(siblings)
    for module in left:
        _fuse([module])
    return fused


def _fuse(modules: list[nn.Module]) -> None:
    siblings = _Siblings(modules)
    for module in modules:
        module.forward = partial(siblings.project, module)


def _is_plain(module: Any) -> bool:
    return bool(
        type(module.base_layer) in (nn.Linear, Linear4bit)
        and module.active_adapters == ["default"]
        and not module.lora_variant
        and not module.lora_bias.get("default")
        and isinstance(module.lora_dropout["default"], nn.Identity)
    )
