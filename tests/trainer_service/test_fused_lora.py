"""The fused LoRA projection beside PEFT's own: the same values and gradients."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.utils.checkpoint import checkpoint

from shared.hyperparameters import resolve_hyperparameters
from shared.storage import Storage
from tests.trainer_service.runs import small_spec
from tests.trainer_service.tiny import TINY_MODEL, prepare_tiny_model
from trainer_service.adapters import add_adapter
from trainer_service.fused_lora import fuse_lora
from trainer_service.hardware import Device, Precision
from trainer_service.modeling import load_base, trainable_parameters

CPU = Device(kind="cpu", name="a cpu", memory_bytes=1)


class Chain(nn.Module):
    """Two projections, one after the other; the second has a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 20, bias=False)
        self.second = nn.Linear(20, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(torch.tanh(self.first(x)))
        return result


class Attention(nn.Module):
    """Projections named as an attention's, of sizes of their own; one has a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(12, 10, bias=False)
        self.k_proj = nn.Linear(12, 6)
        self.v_proj = nn.Linear(12, 10, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], dim=-1)


class CrossAttention(Attention):
    """The same over two inputs; in turns, so that nothing is taken for another call's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        other = x.tanh()
        return torch.cat(
            [self.q_proj(x), self.k_proj(other), self.v_proj(other), self.q_proj(other)], dim=-1
        )


def adapted(model: nn.Module, *, dropout: float = 0.0) -> PeftModel:
    names = [name for name, _ in model.named_children()]
    config = LoraConfig(r=4, lora_alpha=12, lora_dropout=dropout, target_modules=names)
    torch.manual_seed(3)
    adapted = get_peft_model(model, config)  # type: ignore[arg-type]
    for parameter in trainable_parameters(adapted).values():
        nn.init.normal_(parameter, std=0.2)
    return adapted


@pytest.mark.parametrize(("make", "projections"), [(Chain, 2), (Attention, 3), (CrossAttention, 3)])
def test_values_and_gradients_are_pefts(make: Callable[[], nn.Module], projections: int) -> None:
    results = []
    for fused in (False, True):
        torch.manual_seed(2)
        model = adapted(make())
        if fused:
            assert fuse_lora(model) == projections
        # Twice: projections that turn out to have different inputs are kept apart from then on.
        for _ in range(2):
            model.zero_grad()
            x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(4))
            x.requires_grad_()
            output = model(x)
            (output**2).sum().backward()
            gradients = [value.grad for value in trainable_parameters(model).values()]
            results.append([output.detach(), x.grad, *gradients])
    for theirs, ours in zip(results[0] + results[1], results[2] + results[3], strict=True):
        assert theirs is not None and ours is not None
        assert torch.allclose(theirs, ours, rtol=1e-4, atol=1e-5)


def test_projections_of_one_input_are_one_step_of_autograd() -> None:
    model = adapted(Attention())
    fuse_lora(model)
    x = torch.randn(2, 5, 12)
    attention = model.base_model.model
    q, k, v = attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)
    assert q.grad_fn.next_functions == k.grad_fn.next_functions == v.grad_fn.next_functions
    # An equal input is not the same one.
    assert not torch.equal(attention.q_proj(x + 1), q)


@pytest.mark.parametrize("four_bits", [False, True])
def test_in_half_precision_it_is_as_near_to_the_truth_as_pefts(
    storage: Storage, four_bits: bool
) -> None:
    """As on GPUs: a base in bf16 under autocast, an adapter in fp32."""
    ids = torch.arange(3, 40).unsqueeze(0)
    numbers = resolve_hyperparameters(small_spec(), examples=24, context_length=512)
    found: list[torch.Tensor] = []
    for precision, fused in (("fp32", True), ("bf16", False), ("bf16", True)):
        base = load_base(
            storage.base_model(TINY_MODEL),
            method="qlora" if four_bits else "lora",
            device=CPU,
            precision=cast(Precision, precision),
        )
        model = add_adapter(base, numbers, seed=1)
        taken = [module for module in model.modules() if "forward" in vars(module)]
        assert len(taken) == 14
        for module in taken if not fused else ():
            del module.forward
        learning = trainable_parameters(model)
        for value in learning.values():
            nn.init.normal_(value, std=0.1, generator=torch.Generator().manual_seed(5))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            output = model(ids).logits.float()
        (output**2).mean().backward()
        gradients = [value.grad for value in learning.values() if value.grad is not None]
        assert {gradient.dtype for gradient in gradients} == {torch.float32}
        found.append(torch.cat([output.detach().flatten(), *map(torch.flatten, gradients)]))
    exact, peft, ours = found
    errors = [float((each - exact).norm() / exact.norm()) for each in (peft, ours)]
    # (Four bits of rounded weights are others now and then.)
    assert 0 < errors[1] < (0.1 if four_bits else 0.05)
    assert errors[1] < 1.2 * errors[0]


def test_dropout_stays_with_peft() -> None:
    assert fuse_lora(adapted(Chain(), dropout=0.1)) == 0


def test_a_four_bit_projection_is_fused_with_pefts_values_and_gradients(
    tmp_path: Path,
) -> None:
    """Made whole for each product and not kept: the same numbers as PEFT over bitsandbytes."""
    storage = Storage(tmp_path)
    prepare_tiny_model(storage)
    folder = storage.base_model(TINY_MODEL)
    ids = torch.arange(3, 40).unsqueeze(0)
    numbers = resolve_hyperparameters(small_spec(), examples=24, context_length=512)
    results: list[list[torch.Tensor]] = []
    for fused in (False, True):
        base = load_base(folder, method="qlora", device=CPU, precision="fp32")
        model = add_adapter(base, numbers, seed=1)
        taken = [module for module in model.modules() if "forward" in vars(module)]
        assert len(taken) == 14
        if not fused:
            for module in taken:
                del module.forward
        for value in trainable_parameters(model).values():
            nn.init.normal_(value, std=0.1, generator=torch.Generator().manual_seed(5))
        output = model(ids).logits
        (output**2).mean().backward()
        gradients = [value.grad for value in trainable_parameters(model).values()]
        results.append([output.detach(), *(g for g in gradients if g is not None)])
    assert len(results[0]) == len(results[1]) == 1 + 28
    for theirs, ours in zip(*results, strict=True):
        assert torch.allclose(theirs, ours, rtol=1e-3, atol=1e-5)


def test_an_input_is_let_go_when_all_have_taken_theirs() -> None:
    """Also where activation checkpointing breaks a second forward pass off."""
    model = adapted(Chain())
    fuse_lora(model)
    x = torch.randn(2, 5, 12, requires_grad=True)
    inputs: list[weakref.ref[torch.Tensor]] = []
    second = model.base_model.model.second
    second.register_forward_pre_hook(lambda _, given: inputs.append(weakref.ref(given[0])))
    checkpoint(model, x, use_reentrant=False).sum().backward()
    assert len(inputs) == 2
    assert [each() for each in inputs] == [None, None]
