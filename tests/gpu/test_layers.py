"""The trainer's own layers on a GPU, beside plain formulas in fp64: values and gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from bitsandbytes import functional as quantized
from bitsandbytes.nn.modules import Linear4bit
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional

from tests.gpu.errors import BF16, FP32, relative_error
from trainer_service.fused_layers import gated_silu, rms_norm, rotate
from trainer_service.fused_lora import fuse_lora
from trainer_service.head_loss import CHUNK, head_loss
from trainer_service.modeling import trainable_parameters

pytestmark = pytest.mark.gpu

ROWS, TOKENS, WIDTH, INNER = 2, 96, 576, 1536


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Fresh ones each time."""
    return torch.randn(*shape, device="cuda").to(dtype)


def plain_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * weight


def plain_rotation(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def differentiated(
    compute: Callable[..., Tensor], inputs: Sequence[Tensor], along: Tensor
) -> list[Tensor]:
    """The result, and its gradients by the inputs."""
    own = [value.detach().clone().requires_grad_() for value in inputs]
    result = compute(*own)
    return [result, *torch.autograd.grad(result, own, along)]


def assert_near(
    ours: Callable[..., Tensor], plain: Callable[..., Tensor], inputs: Sequence[Tensor], *shape: int
) -> None:
    along = numbers(*shape)
    found = differentiated(ours, inputs, along)
    exact = differentiated(plain, [value.double() for value in inputs], along.double())
    for value, reference in zip(found, exact, strict=True):
        assert relative_error(value, reference) < FP32


def test_norms_and_gates() -> None:
    x = numbers(ROWS, TOKENS, WIDTH)
    norm = lambda x, weight: rms_norm(x, weight, 1e-6)  # noqa: E731
    assert_near(norm, plain_norm, [x, numbers(WIDTH)], *x.shape)
    gate, up = numbers(ROWS, TOKENS, INNER), numbers(ROWS, TOKENS, INNER)
    plain = lambda gate, up: functional.silu(gate) * up  # noqa: E731
    assert_near(gated_silu, plain, [gate, up], *gate.shape)


def test_rotations() -> None:
    q, angles = numbers(ROWS, 9, TOKENS, 64), numbers(ROWS, TOKENS, 32).repeat(1, 1, 2)
    cos, sin = angles.cos(), angles.sin()
    assert_near(
        lambda q: rotate(q, q, cos, sin)[0],
        lambda q: plain_rotation(q, cos.double().unsqueeze(1), sin.double().unsqueeze(1)),
        [q],
        *q.shape,
    )


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, FP32), (torch.bfloat16, BF16)])
@pytest.mark.parametrize("places", [5, 2 * CHUNK + 7])
def test_the_head(places: int, dtype: torch.dtype, within: float) -> None:
    hidden = numbers(places, WIDTH, dtype=dtype).requires_grad_()
    weight = (numbers(4096, WIDTH) / 20).to(dtype).requires_grad_()
    targets = torch.randint(0, 4096, (places,), device="cuda")
    ours = head_loss(hidden, weight, None, targets)
    gradients = torch.autograd.grad(ours.loss, [hidden, weight])
    exact = [value.detach().double().requires_grad_() for value in (hidden, weight)]
    logits = functional.linear(*exact)
    loss = functional.cross_entropy(logits, targets, reduction="sum")
    references = torch.autograd.grad(loss, exact)
    assert relative_error(ours.loss, loss) < within
    right = int((logits.argmax(-1) == targets).sum())
    # (Two logits may be too near to each other for bf16.)
    assert abs(int(ours.correct) - right) <= (0 if dtype == torch.float32 else 2)
    for found, reference in zip(gradients, references, strict=True):
        assert relative_error(found, reference) < within


class Projection(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.first = layer

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.first(x)
        return result


def projection(dtype: torch.dtype, *, four_bits: bool) -> Any:
    """A frozen linear layer under an adapter that adds about as much as the layer gives."""
    torch.manual_seed(1)
    layer = nn.Linear(WIDTH, INNER, dtype=dtype)
    if four_bits:
        packed = Linear4bit(WIDTH, INNER, compute_dtype=dtype, quant_type="nf4")
        packed.load_state_dict(layer.state_dict())
        layer = packed.to(dtype)
    config = LoraConfig(r=16, lora_alpha=32, target_modules=["first"])
    model = get_peft_model(Projection(layer.cuda()), config)  # type: ignore[arg-type]
    for parameter in trainable_parameters(model).values():
        nn.init.normal_(parameter, std=0.05)
    return model


def exact_projection(model: Any, x: Tensor, along: Tensor) -> list[Tensor]:
    """Result and gradients (of input and adapter) in fp64."""
    module = model.base_model.model.first
    base, scale = module.base_layer, module.scaling["default"]
    whole = base.weight
    if isinstance(base, Linear4bit):
        whole = quantized.dequantize_4bit(base.weight.data, base.weight.quant_state)
    down, up = (part["default"].weight for part in (module.lora_A, module.lora_B))

    def compute(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        result = functional.linear(x, whole.double(), base.bias.double())
        return result + scale * (x @ down.T @ up.T)

    inputs = [value.double() for value in (x, down, up)]
    return differentiated(compute, inputs, along.double())


@pytest.mark.parametrize("four_bits", [False, True])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, FP32), (torch.bfloat16, BF16)])
def test_projections_under_an_adapter(dtype: torch.dtype, within: float, four_bits: bool) -> None:
    """As near to the truth as PEFT's own, in the format that autocast asks for."""
    x, along = numbers(ROWS, TOKENS, WIDTH, dtype=dtype), numbers(ROWS, TOKENS, INNER, dtype=dtype)
    errors = []
    for fused in (False, True):
        model = projection(dtype, four_bits=four_bits)
        assert not fused or fuse_lora(model) == 1
        own = x.clone().requires_grad_()
        learning = list(trainable_parameters(model).values())
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            result = model(own)
        assert result.dtype == dtype
        found = [result, *torch.autograd.grad(result, [own, *learning], along)]
        assert [gradient.dtype for gradient in found[2:]] == [torch.float32] * 2
        exact = exact_projection(model, x, along)
        pairs = zip(found, exact, strict=True)
        errors.append([relative_error(value, reference) for value, reference in pairs])
    peft, ours = errors
    assert max(ours) < within
    assert max(ours) < 1.5 * max(max(peft), FP32 / 10)
