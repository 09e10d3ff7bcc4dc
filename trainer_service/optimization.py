"""One optimizer step, and the learning rate that it has; knows no data files and no run folder."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import torch

from shared.errors import InvalidRequest
from shared.runs import Hyperparameters
from trainer_service.batching import Batch, PairBatch, PassLimits, collate
from trainer_service.data_parallel import Ranks
from trainer_service.hardware import Device, Precision
from trainer_service.head_loss import Score
from trainer_service.modeling import DTYPES
from trainer_service.passes import own_passes, shared_tokens
from trainer_service.sharding import like, made_whole
from trainer_service.tokenizing import AnyRow

# More tokens in one pass make a CPU little faster, then slower, as activations leave its caches,
# and take more memory; fewer have it read all weights more often.
CPU_PASS_TOKENS = 1024


def learning_rate_factor(
    step: int,
    *,
    total: int,
    warmup_ratio: float,
    schedule: Literal["linear", "cosine", "constant"],
) -> float:
    """The share of the full rate at ``step`` (from 0): rises from above 0, ends above 0."""
    warmup = math.ceil(total * warmup_ratio)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, total - warmup)
    return 1 - done if schedule == "linear" else (1 + math.cos(math.pi * done)) / 2


def autocast(device: Device, precision: Precision) -> AbstractContextManager[None]:
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.kind, dtype=DTYPES[precision])


def _diverged(what: str, value: float, step: int) -> InvalidRequest:
    return InvalidRequest(
        f"The {what} became {value} at step {step + 1}: training diverged. Lower learning_rate or "
        "raise warmup_ratio.",
        param="learning_rate",
    )


class StepOutcome(NamedTuple):
    """Mean loss over a step's learned tokens, the share of them that the model would have written
    itself, and the norm of the gradient."""

    loss: float
    accuracy: float
    grad_norm: float


class Optimizer:
    """AdamW over what learns, with clipping, schedule and, for fp16, gradient scaling."""

    def __init__(
        self,
        parameters: dict[str, torch.nn.Parameter],
        numbers: Hyperparameters,
        *,
        device: Device,
        precision: Precision,
        pad_token_id: int,
        keep_gradients: bool = False,
        packs: bool = False,
        ranks: Ranks | None = None,
    ) -> None:
        """``keep_gradients``: in one place from step to step. For adapters: their small gradients,
        made anew between activations, would break memory into pieces. Those of a whole model are
        as large as its weights, and should not lie about while activations are made. ``packs``:
        the loss reads rows without their padding (`trainer_service.packing`)."""
        self.parameters = parameters
        self.numbers = numbers
        self.device = device
        self.precision = precision
        self.pad_token_id = pad_token_id
        self.keep_gradients = keep_gradients
        self.packs = packs
        self.ranks = ranks or Ranks()
        if keep_gradients:
            for parameter in parameters.values():
                parameter.grad = torch.zeros_like(parameter)
        self.adamw = torch.optim.AdamW(
            _groups(parameters, numbers.weight_decay),
            lr=numbers.learning_rate,
            weight_decay=numbers.weight_decay,
            fused=device.kind != "mps",
        )
        self.scaler = torch.amp.GradScaler(device.kind, enabled=precision == "fp16")

    def rate(self, step: int) -> float:
        return self.numbers.learning_rate * learning_rate_factor(
            step,
            total=self.numbers.max_steps,
            warmup_ratio=self.numbers.warmup_ratio,
            schedule=self.numbers.lr_scheduler_type,
        )

    def step(self, loss: Callable[..., Score], rows: Sequence[AnyRow], step: int) -> StepOutcome:
        """Learn from ``rows``. Means are over the whole step, however it is cut into passes and
        shared among processes."""
        learned = sum(row.supervised for row in rows)
        device = self.device.torch_name
        total, correct = torch.zeros((), device=device), torch.zeros((), device=device)
        for batch in self._passes(rows):
            with autocast(self.device, self.precision):
                score = loss(*batch)
            part = score.loss / learned
            self.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
            total += part.detach()
            correct += score.correct
        self.ranks.sum_gradients(self.parameters.values())
        total, correct = self.ranks.sum(torch.stack([total, correct]))
        self.scaler.unscale_(self.adamw)
        norm = made_whole(
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.numbers.max_grad_norm)
        )
        # One wait for the device a step.
        outcome = StepOutcome(*torch.stack([total, correct / learned, norm.to(device)]).tolist())
        if not math.isfinite(outcome.loss):
            raise _diverged("loss", outcome.loss, step)
        # (fp16 overflows now and then: its scaler leaves such a step out.)
        if not self.scaler.is_enabled() and not math.isfinite(outcome.grad_norm):
            raise _diverged("gradient", outcome.grad_norm, step)
        for group in self.adamw.param_groups:
            group["lr"] = self.rate(step)
        self.scaler.step(self.adamw)
        self.scaler.update()
        self.adamw.zero_grad(set_to_none=not self.keep_gradients)
        return outcome

    def _passes(self, rows: Sequence[AnyRow]) -> list[Batch | PairBatch]:
        limits = PassLimits(
            self.numbers.per_device_train_batch_size,
            CPU_PASS_TOKENS if self.device.kind == "cpu" else None,
            shared_tokens(rows) if self.packs else None,
        )
        passes = own_passes(rows, self.ranks, limits)
        return [
            collate(part, pad_token_id=self.pad_token_id).on(self.device.torch_name)
            for part in passes
        ]

    def tensors(self) -> dict[str, torch.Tensor]:
        """AdamW's memory by parameter name, to be saved; empty before the first step. Of a sharded
        model divided as its weights are."""
        return {
            f"{name}.{key}": value
            for name, parameter in self.parameters.items()
            for key, value in self.adamw.state[parameter].items()
        }

    def load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        for name, parameter in self.parameters.items():
            self.adamw.state[parameter] = {
                "step": tensors[f"{name}.step"].to(parameter.device),
                "exp_avg": like(parameter, tensors[f"{name}.exp_avg"]),
                "exp_avg_sq": like(parameter, tensors[f"{name}.exp_avg_sq"]),
            }


def _groups(
    parameters: dict[str, torch.nn.Parameter], weight_decay: float
) -> list[dict[str, object]]:
    """Norms and biases are not pulled to zero: that would undo what they are for."""
    matrices = [value for value in parameters.values() if value.ndim > 1]
    others = [value for value in parameters.values() if value.ndim <= 1]
    groups: list[dict[str, object]] = [{"params": matrices, "weight_decay": weight_decay}]
    return [*groups, {"params": others, "weight_decay": 0.0}] if others else groups
