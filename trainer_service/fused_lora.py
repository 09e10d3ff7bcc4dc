"""A LoRA projection as one step of autograd; same numbers as PEFT's, fewer passes over memory.

PEFT adds the adapter's share with separate products, scalings and sums of full-size activations;
on CPUs these cost a good part of a small model's time, and over four-bit weights so much memory
that QLoRA would need more than LoRA. On GPUs each is a kernel of its own, and each projection keeps
another copy of its input, since PEFT casts it to the adapter's fp32 and autocast back again. The
modules stay PEFT's: only their forward is replaced, so saving and loading are unchanged.
"""

from types import MethodType
from typing import Any, Protocol

import torch
from bitsandbytes import functional as quantized
from bitsandbytes.nn.modules import Linear4bit
from peft.tuners.lora import Linear as PeftLinear
from peft.tuners.lora import Linear4bit as PeftLinear4bit
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from trainer_service.head_loss import compute_dtype


class FrozenWeight(Protocol):
    """A weight that does not learn: whole, or made whole each time that it is asked for."""

    def __call__(self) -> torch.Tensor: ...


class _LoraLinear(torch.autograd.Function):
    """``x W' + bias + scale * (x A') B'`` where W and bias do not learn.

    ``weight`` is called for W in either direction: what it makes is never kept between them.
    Products are made in autocast's number format, else in W's; the adapter's gradients are summed
    in its own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: FrozenWeight,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        whole = weight()
        compute = compute_dtype(whole)
        flat, down, up = (part.to(compute) for part in (x.reshape(-1, x.shape[-1]), down, up))
        inner = flat @ down.T
        result = functional.linear(flat, whole.to(compute), bias)
        result.addmm_(inner, up.T, alpha=scale)
        ctx.save_for_backward(flat, inner, down, up)
        ctx.weight = weight
        ctx.scale = scale
        ctx.shape = x.shape
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, None, None, torch.Tensor, torch.Tensor, None]:
        flat, inner, down, up = ctx.saved_tensors
        gradient = gradient.reshape(-1, gradient.shape[-1])
        to_inner = gradient @ up
        to_up = _product(gradient.T, inner, ctx.scale)
        to_down = _product(to_inner.T, flat, ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            whole = ctx.weight().to(gradient.dtype)
            to_x = (gradient @ whole).addmm_(to_inner, down, alpha=ctx.scale).view(ctx.shape)
        return to_x, None, None, to_down, to_up, None


def _product(left: torch.Tensor, right: torch.Tensor, scale: float) -> torch.Tensor:
    """``scale * (left @ right)`` in one step. (With a beta of 0 the first argument is not read.)"""
    return torch.addmm(left.new_empty(()), left, right, beta=0, alpha=scale)


def _forward(self: PeftLinear | PeftLinear4bit, x: torch.Tensor) -> torch.Tensor:
    base = self.base_layer
    result: torch.Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call]
        x,
        _frozen(base),
        base.bias,
        self.lora_A["default"].weight,
        self.lora_B["default"].weight,
        self.scaling["default"],
    )
    return result


def _frozen(base: Any) -> FrozenWeight:
    weight = base.weight
    if not isinstance(base, Linear4bit):
        return lambda: weight.detach()
    return lambda: quantized.dequantize_4bit(weight.data, weight.quant_state)


def fuse_lora(model: nn.Module) -> int:
    """Give the model's LoRA projections the fused forward, where it means the same: over a plain
    or a four-bit linear layer, without dropout. Returns how many took it."""
    fused = 0
    for module in model.modules():
        if type(module) in (PeftLinear, PeftLinear4bit) and _is_plain(module):
            module.forward = MethodType(_forward, module)
            fused += 1
    return fused


def _is_plain(module: Any) -> bool:
    return bool(
        type(module.base_layer) in (nn.Linear, Linear4bit)
        and module.active_adapters == ["default"]
        and not module.lora_variant
        and not module.lora_bias.get("default")
        and isinstance(module.lora_dropout["default"], nn.Identity)
    )
