"""The chunked head beside plain cross entropy: values, hits, and every gradient."""

import pytest
import torch
from torch.nn import functional

from trainer_service.head_loss import CHUNK, head_loss


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("places", [1, CHUNK, 2 * CHUNK + 7])
def test_many_places_go_through_the_head_in_pieces(places: int, with_bias: bool) -> None:
    torch.manual_seed(2)
    hidden = torch.randn(places, 16, requires_grad=True)
    weight = torch.randn(50, 16, requires_grad=True)
    bias = torch.randn(50, requires_grad=True) if with_bias else None
    targets = torch.randint(0, 50, (places,))
    inputs = [value for value in (hidden, weight, bias) if value is not None]
    ours = head_loss(hidden, weight, bias, targets)
    our_gradients = torch.autograd.grad(3 * ours.loss, inputs)
    logits = functional.linear(hidden, weight, bias)
    theirs = functional.cross_entropy(logits, targets, reduction="sum")
    their_gradients = torch.autograd.grad(3 * theirs, inputs)
    assert torch.allclose(ours.loss, theirs, rtol=1e-5)
    assert ours.correct == (logits.argmax(-1) == targets).sum()
    for our, their in zip(our_gradients, their_gradients, strict=True):
        assert torch.allclose(our, their, rtol=1e-4, atol=1e-4)


def test_what_does_not_learn_has_no_gradient() -> None:
    hidden = torch.randn(5, 4, requires_grad=True)
    weight, bias = torch.randn(9, 4), torch.randn(9)
    head_loss(hidden, weight, bias, torch.arange(5)).loss.backward()
    assert hidden.grad is not None and weight.grad is None and bias.grad is None


def test_a_learning_head_under_bf16_keeps_an_fp32_gradient() -> None:
    """As on GPUs: products in bf16, sums and weights in fp32."""
    torch.manual_seed(3)
    hidden = torch.randn(300, 16, requires_grad=True)
    weight = torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(0, 50, (300,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        head_loss(hidden, weight, None, targets).loss.backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32
    half, weight.grad = weight.grad, None
    head_loss(hidden, weight, None, targets).loss.backward()
    assert torch.nn.functional.cosine_similarity(half.flatten(), weight.grad.flatten(), 0) > 0.999
