"""The loss at learned places alone equals the loss of the whole model, and so do its gradients."""

from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaForCausalLM

from tests.trainer_service.tiny import tiny_config
from trainer_service.batching import collate
from trainer_service.supervised_loss import CHUNK, SupervisedLoss, frozen_head_loss
from trainer_service.tokenizing import IGNORED, Row


def tiny_gemma() -> Gemma2ForCausalLM:
    """Caps its logits after the head."""
    config = Gemma2Config(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        final_logit_softcapping=0.1,
        pad_token_id=0,
    )
    return Gemma2ForCausalLM(config)


def a_batch() -> tuple[torch.Tensor, torch.Tensor]:
    long = tuple(range(3, 40))
    short = tuple(range(50, 70))
    rows = [
        Row(long, (IGNORED,) * 20 + long[20:]),
        Row(short, (IGNORED,) * 5 + short[5:10] + (IGNORED,) * 4 + short[14:]),
    ]
    batch = collate(rows, pad_token_id=0)
    return batch.input_ids, batch.labels


def whole_loss(model: Any, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The plain way: mask padding, all logits, ignore what is not learned."""
    mask = (input_ids != 0).long()
    logits = model(input_ids=input_ids, attention_mask=mask).logits
    return functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )


@pytest.mark.parametrize("kind", ["frozen head", "learning head", "capped logits"])
def test_loss_and_gradients_are_those_of_the_whole_model(kind: str) -> None:
    torch.manual_seed(1)
    model: Any = tiny_gemma() if kind == "capped logits" else LlamaForCausalLM(tiny_config())
    if kind != "learning head":
        model.get_output_embeddings().weight.requires_grad_(False)
    loss = SupervisedLoss(model)
    assert loss.direct == (kind != "capped logits")
    assert loss.frozen == (kind != "learning head")
    weight = model.model.layers[0].self_attn.q_proj.weight
    results = []
    for compute in (loss, lambda *batch: whole_loss(model, *batch)):
        model.zero_grad()
        value = compute(*a_batch())
        value.backward()
        results.append((value.detach(), weight.grad.clone()))
    (ours, our_gradient), (theirs, their_gradient) = results
    assert torch.allclose(ours, theirs, rtol=1e-5)
    assert torch.allclose(our_gradient, their_gradient, rtol=1e-4, atol=1e-6)


def test_many_places_go_through_the_head_in_pieces() -> None:
    torch.manual_seed(2)
    places = 2 * CHUNK + 7
    hidden = torch.randn(places, 16, requires_grad=True)
    weight = torch.randn(50, 16)
    targets = torch.randint(0, 50, (places,))
    ours = frozen_head_loss(hidden, weight, targets)
    (our_gradient,) = torch.autograd.grad(3 * ours, hidden)
    theirs = functional.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    (their_gradient,) = torch.autograd.grad(3 * theirs, hidden)
    assert torch.allclose(ours, theirs, rtol=1e-5)
    assert torch.allclose(our_gradient, their_gradient, rtol=1e-4, atol=1e-5)
