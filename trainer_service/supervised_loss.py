"""Cross entropy of a causal model at the learned places alone; knows no data and no optimizer.

The language-model head is a fifth of a small model's work and its logits most of its memory, so
hidden states are picked by mask before they meet it.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from trainer_service.tokenizing import IGNORED

# Places whose logits exist at one time: enough for a full-speed product, little memory.
CHUNK = 256


class _FrozenHeadLoss(torch.autograd.Function):
    """Summed cross entropy through a head that does not learn.

    The gradient of the hidden states is made while the logits are at hand, so neither logits nor
    their gradient are ever kept.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        gradient = torch.empty_like(hidden)
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(targets), CHUNK):
            part = slice(start, start + CHUNK)
            target = targets[part].unsqueeze(1)
            logits = (hidden[part].to(weight.dtype) @ weight.T).float()
            logits -= logits.amax(dim=1, keepdim=True)
            chosen = logits.gather(1, target)
            sums = logits.exp_().sum(dim=1, keepdim=True)
            total += (sums.log() - chosen).sum()
            logits /= sums
            logits.scatter_add_(1, target, torch.full_like(chosen, -1.0))
            gradient[part] = (logits.to(weight.dtype) @ weight).to(gradient.dtype)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * scale.to(gradient.dtype), None, None


def frozen_head_loss(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    loss: torch.Tensor = _FrozenHeadLoss.apply(  # type: ignore[no-untyped-call]
        hidden, weight, targets
    )
    return loss


class SupervisedLoss:
    """The loss of one model: sum over the learned places of a batch.

    Rows are padded on the right, and attention is causal, so no learned place sees padding and no
    attention mask is needed.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.decoder = model.get_decoder()
        self.head = model.get_output_embeddings()
        self.direct = self._head_follows_decoder()
        self.frozen = (
            type(self.head) is nn.Linear
            and self.head.bias is None
            and not self.head.weight.requires_grad
        )

    def __call__(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        learned = labels != IGNORED
        targets = labels[learned]
        if not self.direct:
            logits = self.model(input_ids=input_ids, use_cache=False).logits[learned]
            return functional.cross_entropy(logits.float(), targets, reduction="sum")
        hidden = self.decoder(input_ids=input_ids, use_cache=False).last_hidden_state[learned]
        if self.frozen:
            return frozen_head_loss(hidden, self.head.weight, targets)
        return functional.cross_entropy(self.head(hidden).float(), targets, reduction="sum")

    @torch.no_grad()
    def _head_follows_decoder(self) -> bool:
        """Whether this architecture's logits are just head(decoder(x)): some scale or cap them."""
        if self.head is None or self.decoder is self.model:
            return False
        probe = torch.arange(8, device=self.model.device).unsqueeze(0)
        training = self.model.training
        self.model.eval()
        whole = self.model(input_ids=probe, use_cache=False).logits
        parts = self.head(self.decoder(input_ids=probe, use_cache=False).last_hidden_state)
        self.model.train(training)
        return bool(torch.allclose(whole.float(), parts.float(), rtol=1e-3, atol=1e-3))
