"""Norms, rotations and gates of a decoder as single steps of autograd; same numbers, less memory.

Between its matrix products a transformer reads and writes its activations many times over, and
autograd keeps most of what it reads. On CPUs that is a third of a small model's time; on GPUs,
where norms go through fp32 and back, a fifth of the memory. The steps here keep only what their
gradients need.

What a model's own code computes is not guessed from names: each replacement is tried against the
module that it replaces, and where the two differ the module stays as it was.
"""

import math
import sys
from collections.abc import Callable
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# A difference by more than rounding, as a share of the norm of the result, is something else.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-3}


# Places of an activation, which has no width, at which it is tried.
GELU_WIDTH = 64


class Fused(NamedTuple):
    """How many norms and gates (activations among them) took the faster form; ``rotary``: whether
    rotations did."""

    norms: int
    gates: int
    rotary: bool


class _RmsNorm(torch.autograd.Function):
    """``x / rms(x) * weight`` (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        size = x.shape[-1]
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = norm.square_().div_(size).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        result: Tensor = (x * inverse).mul_(weight)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, inverse = ctx.saved_tensors
        to_x = to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = (gradient * x).mul_(inverse).reshape(-1, x.shape[-1]).sum(0)
        if ctx.needs_input_grad[0]:
            to_x = gradient * weight
            share = (to_x * x).sum(dim=-1, keepdim=True)
            share.mul_(inverse).mul_(inverse).mul_(inverse).div_(x.shape[-1])
            to_x = to_x.mul_(inverse).addcmul_(x, share, value=-1)
        return to_x, to_weight, None


class _Rotation(torch.autograd.Function):
    """Rotary positions (Su et al. 2021, arXiv 2104.09864) in the form whose halves are pairs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate(x, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        # A rotation's gradient is the rotation back.
        return _rotate(gradient, cos, sin, -1), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    """The first ``cos.shape[-1]`` places of each head turned; some models leave the others."""
    turned, half = cos.shape[-1], cos.shape[-1] // 2
    if turned == x.shape[-1]:
        result = x * cos
    else:
        result = x.clone()
        result[..., :turned].mul_(cos)
    result[..., :half].addcmul_(x[..., half:turned], sin[..., :half], value=-direction)
    result[..., half:turned].addcmul_(x[..., :half], sin[..., half:], value=direction)
    return result


class _GatedSilu(torch.autograd.Function):
    """``silu(gate) * up``."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        to_up = functional.silu(gate).mul_(gradient)
        return torch.ops.aten.silu_backward(gradient * up, gate), to_up


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x`` [..., size] normed to a root mean square of 1 and scaled by ``weight`` [size]."""
    result: Tensor = _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return result


def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Any:
    """Queries and keys [rows, heads, tokens, size] turned by their positions; ``cos`` and ``sin``
    [rows, tokens, size]. For half the frequencies twice over, as transformers gives them."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return (
        _Rotation.apply(q, cos, sin),  # type: ignore[no-untyped-call]
        _Rotation.apply(k, cos, sin),  # type: ignore[no-untyped-call]
    )


def gated_silu(gate: Tensor, up: Tensor) -> Tensor:
    result: Tensor = _GatedSilu.apply(gate, up)  # type: ignore[no-untyped-call]
    return result


def fuse_layers(model: nn.Module) -> Fused:
    """Give ``model`` the forms above wherever they compute what its own modules compute: in half
    precision up to one rounding, since torch's own norms round once where models round twice."""
    dtype = next(model.parameters()).dtype
    if dtype not in TOLERANCE:
        return Fused(0, 0, False)
    training = model.training
    model.eval()  # What drops out at random cannot be compared.
    half = dtype != torch.float32
    norms = gates = 0
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            norms += _replace(module, _half_norm_forward if half else _norm_forward, _width(module))
        elif half and type(module) is nn.LayerNorm:
            norms += _replace(module, _half_layer_norm_forward, _width(module))
        elif hasattr(module, "act_fn") and hasattr(module, "gate_proj"):
            gates += _replace(module, _mlp_forward, getattr(module, "hidden_size", 0))
        elif type(module).__name__ == "NewGELUActivation":
            gates += _replace(module, _gelu_forward, GELU_WIDTH)
    model.train(training)
    return Fused(norms, gates, _replace_rotation(model))


def _width(norm: nn.Module) -> int:
    weight = getattr(norm, "weight", None)
    return weight.shape[0] if isinstance(weight, Tensor) and weight.dim() == 1 else 0


def _norm_forward(self: Any, hidden_states: Tensor) -> Tensor:
    return rms_norm(hidden_states, self.weight, self.variance_epsilon)


def _half_norm_forward(self: Any, hidden_states: Tensor) -> Tensor:
    """In one step, and not in fp32, which autocast would have it give: what follows are products,
    each of which would keep a rounded copy of its own."""
    with torch.autocast(hidden_states.device.type, enabled=False):
        own = hidden_states.to(self.weight.dtype)
        return functional.rms_norm(own, self.weight.shape, self.weight, self.variance_epsilon)


def _half_layer_norm_forward(self: Any, input: Tensor) -> Tensor:
    """As above."""
    with torch.autocast(input.device.type, enabled=False):
        own = input.to(self.weight.dtype)
        return functional.layer_norm(own, self.weight.shape, self.weight, self.bias, self.eps)


def _gelu_forward(self: Any, input: Tensor) -> Tensor:  # noqa: ARG001
    return functional.gelu(input, approximate="tanh")


def _mlp_forward(self: Any, x: Tensor) -> Tensor:
    result: Tensor = self.down_proj(gated_silu(self.gate_proj(x), self.up_proj(x)))
    return result


@torch.no_grad()
def _replace(module: nn.Module, forward: Callable[..., Tensor], width: int) -> bool:
    """Replace a module's forward if it takes [rows, tokens, ``width``] and gives the same."""
    if not width:
        return False
    own = next(module.parameters(), None)
    probe = _numbers(2, 3, width) if own is None else _numbers(2, 3, width).to(own)
    try:
        same = _agree(forward(module, probe), module(probe))
    except (AttributeError, TypeError, RuntimeError):
        return False
    if same:
        module.forward = MethodType(forward, module)
    return same


@torch.no_grad()
def _replace_rotation(model: nn.Module) -> bool:
    """Every attention of a model's code looks the function up in its own Python module."""
    code = sys.modules[type(model).__module__]
    own = getattr(code, "apply_rotary_pos_emb", None)
    if own is None or own is rotate:
        return own is rotate
    q, k = _numbers(2, 4, 3, 8), _numbers(2, 2, 3, 8)
    angles = _numbers(2, 3, 4).repeat(1, 1, 2)
    try:
        expected, found = (
            own(q, k, angles.cos(), angles.sin()),
            rotate(q, k, angles.cos(), angles.sin()),
        )
        same = all(_agree(*pair) for pair in zip(found, expected, strict=True))
    except (AttributeError, TypeError, RuntimeError, ValueError):
        return False
    if same:
        code.apply_rotary_pos_emb = rotate  # type: ignore[attr-defined]
    return same


def _numbers(*shape: int) -> Tensor:
    """Numbers without a pattern that any of these layers would not see. Not random: a run's own
    random numbers must be the same whether a layer was tried or not."""
    return (torch.arange(math.prod(shape)) * 2.399).sin().mul_(2).view(shape)


def _agree(found: Tensor, expected: Tensor) -> bool:
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return False
    expected = expected.float()
    return bool((found.float() - expected).norm() <= TOLERANCE[found.dtype] * expected.norm())
