"""Cross entropy through a language model's output head, in chunks; knows no model and no data.

The head is a fifth of a small model's work and its logits most of its memory: they exist for a few
places at a time, and their gradient is made while they are at hand.
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Places whose logits exist at one time: enough for a full-speed product, little memory.
CHUNK = 256


class Score(NamedTuple):
    """Over some places: the sum of their cross entropies, and at how many of them the target was
    the most likely token."""

    loss: torch.Tensor
    correct: torch.Tensor


class _HeadLoss(torch.autograd.Function):
    """Neither logits nor their gradient are ever kept: only the gradients of the hidden states
    and, where the head learns, of its weight and bias."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wanted = ctx.needs_input_grad
        head = weight.to(compute_dtype(weight.device, weight.dtype))
        to_hidden = torch.empty_like(hidden) if wanted[0] else None
        # (Half precision would lose what one chunk adds to those before it.)
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
        to_bias = torch.zeros_like(bias) if bias is not None and wanted[2] else None
        total, correct = _nothing(hidden)
        for start in range(0, len(targets), CHUNK):
            part = slice(start, start + CHUNK)
            own = hidden[part].to(head.dtype)
            logits = functional.linear(own, head, bias).float()
            score, slopes = _score(logits, targets[part])
            total += score.loss
            correct += score.correct
            slopes = slopes.to(head.dtype)
            if to_hidden is not None:
                to_hidden[part] = (slopes @ head).to(hidden.dtype)
            if to_weight is not None:
                _add_product(to_weight, slopes.T, own)
            if to_bias is not None:
                to_bias += slopes.sum(dim=0)
        ctx.save_for_backward(to_hidden, to_weight, to_bias)
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, scale: torch.Tensor, _: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None, None]:
        """(Called once: what was made in the forward pass is scaled in its place.)"""
        to_hidden, to_weight, to_bias = (
            None if gradient is None else gradient.mul_(scale.to(gradient.dtype))
            for gradient in ctx.saved_tensors
        )
        return to_hidden, to_weight, to_bias, None


def head_loss(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> Score:
    """The score of ``hidden`` [places, width] against ``targets`` [places] through a linear head
    ``weight`` [vocabulary, width]; differentiable by the first three."""
    if torch.is_grad_enabled():
        return Score(*_HeadLoss.apply(hidden, weight, bias, targets))  # type: ignore[no-untyped-call]
    head = weight.to(compute_dtype(weight.device, weight.dtype))
    total, correct = _nothing(hidden)
    for start in range(0, len(targets), CHUNK):
        part = slice(start, start + CHUNK)
        logits = functional.linear(hidden[part].to(head.dtype), head, bias).float()
        score, _ = _score(logits, targets[part], sloped=False)
        total += score.loss
        correct += score.correct
    return Score(total, correct)


def plain_loss(logits: torch.Tensor, targets: torch.Tensor) -> Score:
    """The score of whole logits [places, vocabulary]: for models that do more than a head."""
    loss = functional.cross_entropy(logits.float(), targets, reduction="sum")
    return Score(loss, (logits.argmax(dim=-1) == targets).sum())


def is_plain_head(head: Any) -> bool:
    return type(head) is nn.Linear


def _score(
    logits: torch.Tensor, targets: torch.Tensor, *, sloped: bool = True
) -> tuple[Score, torch.Tensor]:
    """Score and gradient of fp32 ``logits``, whose memory is used up."""
    target = targets.unsqueeze(1)
    logits -= logits.amax(dim=1, keepdim=True)
    chosen = logits.gather(1, target)
    # Shifted by the largest of its place, a logit is 0 exactly where it is the largest.
    correct = (chosen == 0).sum()
    sums = logits.exp_().sum(dim=1, keepdim=True)
    score = Score((sums.log() - chosen).sum(), correct)
    if sloped:
        logits /= sums
        logits.scatter_add_(1, target, torch.full_like(chosen, -1.0))
    return score, logits


def _nothing(hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    total = hidden.new_zeros((), dtype=torch.float32)
    return total, hidden.new_zeros((), dtype=torch.long)


def compute_dtype(device: torch.device, own: torch.dtype) -> torch.dtype:
    """The number format of products with weights in ``own``: autocast's where that is on."""
    kind = device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else own


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
