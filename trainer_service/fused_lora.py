"""A LoRA projection as one step of autograd; same numbers as PEFT's, fewer passes over memory.

PEFT adds the adapter's share with separate products, scalings and sums of full-size activations;
on CPUs these cost a good part of a small model's time. The modules stay PEFT's: only their forward
is replaced, so saving and loading are unchanged.
"""

from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import Linear as PeftLinear
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class _LoraLinear(torch.autograd.Function):
    """``x W' + bias + scale * (x A') B'`` where W and bias do not learn."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        inner = flat @ down.T
        result = functional.linear(flat, weight, bias)
        result.addmm_(inner, up.T, alpha=scale)
        ctx.save_for_backward(flat, inner, weight, down, up)
        ctx.scale = scale
        ctx.shape = x.shape
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, None, None, torch.Tensor, torch.Tensor, None]:
        flat, inner, weight, down, up = ctx.saved_tensors
        gradient = gradient.reshape(-1, gradient.shape[-1])
        to_inner = (gradient @ up).mul_(ctx.scale)
        to_up = (gradient.T @ inner).mul_(ctx.scale)
        to_down = to_inner.T @ flat
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (gradient @ weight).addmm_(to_inner, down).view(ctx.shape)
        return to_x, None, None, to_down, to_up, None


def _forward(self: PeftLinear, x: torch.Tensor) -> torch.Tensor:
    base = self.base_layer
    result: torch.Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call]
        x,
        base.weight,
        base.bias,
        self.lora_A["default"].weight,
        self.lora_B["default"].weight,
        self.scaling["default"],
    )
    return result


def fuse_lora(model: nn.Module) -> int:
    """Give the model's LoRA projections the fused forward, where it means the same: a plain fp32
    linear without dropout. Returns how many took it."""
    fused = 0
    for module in model.modules():
        if type(module) is PeftLinear and _is_plain(module):
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]
            fused += 1
    return fused


def _is_plain(module: PeftLinear) -> bool:
    base = module.base_layer
    return (
        type(base) is nn.Linear
        and base.weight.dtype == torch.float32
        and module.active_adapters == ["default"]
        and not module.lora_variant
        and not module.lora_bias.get("default")
        and isinstance(module.lora_dropout["default"], nn.Identity)
    )
