"""Tests of trainer_service.fused_layers: the same numbers and gradients, and no wrong guess."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from trainer_service.fused_layers import Fused, fuse_layers, gated_silu, rms_norm, rotate

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
NEOX = {name: value for name, value in SIZES.items() if name != "num_key_value_heads"}
MODELS = {
    "llama": (lambda: LlamaForCausalLM(LlamaConfig(**SIZES)), Fused(5, 2, True)),
    "mistral": (lambda: MistralForCausalLM(MistralConfig(**SIZES)), Fused(5, 2, True)),
    "qwen2": (lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)), Fused(5, 2, True)),
    # Its norms scale by 1 + weight and its gates are GELU; only the rotation is the same.
    "gemma": (lambda: GemmaForCausalLM(GemmaConfig(**SIZES, head_dim=8)), Fused(0, 0, True)),
    # Its GELU is written out in six steps.
    "phi": (lambda: PhiForCausalLM(PhiConfig(**SIZES)), Fused(0, 2, True)),
    "gpt_neox": (lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**NEOX)), Fused(0, 0, True)),
}


def gradients(model: Any, **inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    found = {
        name: value.grad.clone()
        for name, value in model.named_parameters()
        if value.grad is not None
    }
    return loss.detach(), found


def assert_same(before: tuple[Tensor, Any], after: tuple[Tensor, Any]) -> None:
    torch.testing.assert_close(after[0], before[0], rtol=1e-5, atol=1e-6)
    assert before[1].keys() == after[1].keys()
    for name, value in before[1].items():
        torch.testing.assert_close(after[1][name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_learns_the_same(kind: str) -> None:
    torch.manual_seed(0)
    make, expected = MODELS[kind]
    model: Any = make().train()
    ids = torch.randint(0, 97, (3, 11))
    before = gradients(model, input_ids=ids, labels=ids)
    fused = fuse_layers(model)
    assert fused == expected
    assert model.training
    assert_same(before, gradients(model, input_ids=ids, labels=ids))


def test_an_encoder_and_decoder_learn_the_same() -> None:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=97,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    model: Any = T5ForConditionalGeneration(config).train()
    inputs = {"input_ids": torch.randint(1, 97, (3, 11)), "labels": torch.randint(1, 97, (3, 5))}
    before = gradients(model, **inputs)
    assert fuse_layers(model) == Fused(12, 0, False)
    assert_same(before, gradients(model, **inputs))


def test_less_is_kept_for_the_gradients() -> None:
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(**SIZES)).train()
    ids = torch.randint(0, 97, (4, 32))
    weights = {value.untyped_storage().data_ptr() for value in model.parameters()}

    def kept() -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(input_ids=ids, labels=ids)
        return sum(size for place, size in sizes.items() if place not in weights)

    before = kept()
    fuse_layers(model)
    assert kept() < 0.8 * before


def test_what_computes_something_else_stays() -> None:
    class OtherRMSNorm(nn.Module):
        """Has the names, and another meaning."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8))
            self.variance_epsilon = 1e-6

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight * 2

    model = nn.Sequential(nn.Linear(8, 8), OtherRMSNorm())
    x = torch.randn(2, 3, 8)
    before = model(x)
    assert fuse_layers(model) == Fused(0, 0, False)
    assert torch.equal(model(x), before)


HALVES = {
    "llama": Fused(5, 2, True),
    # Rather one LayerNorm a layer and one at the end.
    "phi": Fused(3, 2, True),
    "gpt_neox": Fused(5, 0, True),
    "gemma": Fused(0, 0, True),
}


def half_gradient(model: Any, ids: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=ids, labels=ids).loss
    embeddings = model.get_input_embeddings().weight
    gradient: Tensor = torch.autograd.grad(loss, embeddings)[0]
    return gradient.double()


@pytest.mark.parametrize("kind", HALVES)
def test_in_half_precision_it_is_as_near_to_the_truth_as_before(kind: str) -> None:
    """As on GPUs: a base in bf16 under autocast, beside the same weights in fp64."""
    torch.manual_seed(0)
    model: Any = MODELS[kind][0]().to(torch.bfloat16)
    ids = torch.randint(0, 97, (3, 31))
    exact = copy.deepcopy(model).double()
    loss = exact(input_ids=ids, labels=ids).loss
    truth = torch.autograd.grad(loss, exact.get_input_embeddings().weight)[0]
    errors = []
    for fused in (False, True):
        assert not fused or fuse_layers(model) == HALVES[kind]
        errors.append(float((half_gradient(model, ids) - truth).norm() / truth.norm()))
    before, after = errors
    assert 0 < before < 0.05
    assert after < 1.2 * before


def test_another_number_format_is_left_alone() -> None:
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).double()
    assert fuse_layers(model) == Fused(0, 0, False)


def test_gradients_are_those_of_the_formulas() -> None:
    torch.manual_seed(0)

    def wished(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(
        lambda x, weight: rms_norm(x, weight, 1e-6), (wished(2, 3, 8), wished(8))
    )
    assert torch.autograd.gradcheck(gated_silu, (wished(2, 3, 8), wished(2, 3, 8)))
    angles = torch.randn(2, 3, 4, dtype=torch.float64).repeat(1, 1, 2)
    assert torch.autograd.gradcheck(
        lambda q, k: rotate(q, k, angles.cos(), angles.sin()),
        (wished(2, 4, 3, 8), wished(2, 2, 3, 8)),
    )
