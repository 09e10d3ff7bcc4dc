"""How every "auto" of a run is decided, by its preset, method, model and number of rows."""

import math
from typing import Any, NamedTuple, TypeVar

from shared.memory import Longest
from shared.runs import Auto, Family, FineTuneSpec, Hyperparameters, Preset

_Value = TypeVar("_Value")

# Full learning rates by what learns, for fewer than 1,000 rows, up to 10,000, and more.
_RATES: dict[tuple[Family, bool], tuple[float, float, float]] = {
    ("causal", False): (1e-3, 5e-4, 2e-4),
    ("seq2seq", False): (1e-3, 1e-3, 5e-4),
    ("causal", True): (5e-5, 3e-5, 2e-5),
    ("seq2seq", True): (3e-4, 2e-4, 1e-4),
}
LARGE_MODEL = 1_000_000_000
_LARGE_RATE = 2e-4


class _Effort(NamedTuple):
    """Of a preset: steps to aim for, epochs at most, an adapter's rank."""

    steps: int
    epochs: int
    rank: int


_EFFORT: dict[Preset, _Effort] = {
    "fast": _Effort(80, 1, 8),
    "balanced": _Effort(200, 3, 16),
    "thorough": _Effort(600, 6, 32),
}
THOROUGH_PATIENCE = 3
# Validations of a run, and the share of its training time that all of them may take. Going forward
# alone takes about half as long as a step.
_USUAL_VALIDATIONS, _FEWEST_VALIDATIONS = 10, 4
_VALIDATION_SHARE, _FORWARD_SHARE = 0.2, 0.5
# Tokens of a row (seq2seq: of a source text), and of an answer: usually, and where some are longer.
_ROW = (1024, 2048)
_ANSWER = (256, 512)


def resolve_hyperparameters(
    spec: FineTuneSpec,
    *,
    examples: int,
    context_length: int,
    family: Family = "causal",
    parameters: int | None = None,
    longest: Longest | None = None,
    validation_examples: int = 0,
) -> Hyperparameters:
    """Decide every "auto" of ``spec`` for ``examples`` training rows (counted with their weights),
    ``validation_examples`` beside them, and a base model of so many ``parameters``. ``longest``:
    of the rows before any limit, where they have been read.

    The rules: small sets get small batches, because the number of optimizer steps counts for
    more than the batch size there (batch 2 below 1,000 rows, 8 above 10,000, else 4), and a high
    learning rate: with LoRA 1e-3, 5e-4, 2e-4 for the same sizes (seq2seq 1e-3, 1e-3, 5e-4), at
    most 2e-4 for models of a billion parameters and more; with method full 5e-5, 3e-5, 2e-5
    (seq2seq 3e-4, 2e-4, 1e-4). Epochs until about 200 steps, at least 1, at most 3 (preset fast:
    80 steps, 1 epoch; thorough: 600, 6); evaluation ten times a run, or down to four times where
    that would take more than a fifth of the training, and a checkpoint about four times a run,
    which costs no evaluation more. Rows of 1,024 tokens and answers of 256,
    or of 2,048 and 512 where some are longer, and never beyond the model's context.
    Preset thorough stops early after 3 evaluations without progress and keeps the best weights.
    """
    patience = THOROUGH_PATIENCE if spec.preset == "thorough" else 0
    patience = or_auto(spec.early_stopping_patience, patience)
    return Hyperparameters(
        learning_rate=or_auto(spec.learning_rate, _rate(spec, examples, family, parameters)),
        lr_scheduler_type=or_auto(spec.lr_scheduler_type, "linear"),
        warmup_ratio=or_auto(spec.warmup_ratio, 0.05),
        weight_decay=or_auto(spec.weight_decay, 0.0),
        max_grad_norm=or_auto(spec.max_grad_norm, 1.0),
        early_stopping_patience=patience,
        load_best_model_at_end=or_auto(spec.load_best_model_at_end, patience > 0),
        gradient_checkpointing=or_auto(spec.gradient_checkpointing, False),
        **_steps(spec, examples, validation_examples),
        **_lengths(spec, context_length, family, longest or Longest(0)),
        **_adapter(spec),
    )


def or_auto(value: _Value | Auto, auto: _Value) -> _Value:
    """``value``, or the ``auto`` choice where the user left it open."""
    return auto if value == "auto" else value


def _size(examples: int) -> int:
    return 0 if examples < 1_000 else 1 if examples <= 10_000 else 2


def _rate(spec: FineTuneSpec, examples: int, family: Family, parameters: int | None) -> float:
    rate = _RATES[family, spec.method == "full"][_size(examples)]
    large = parameters is not None and parameters >= LARGE_MODEL
    return min(rate, _LARGE_RATE) if large else rate


def _steps(spec: FineTuneSpec, examples: int, validation_examples: int) -> dict[str, Any]:
    """How large steps are, how many there are, and after how many something is due."""
    usual_batch = (2, 4, 8)[_size(examples)]
    batch = or_auto(spec.per_device_train_batch_size, max(1, usual_batch // spec.devices))
    accumulation = or_auto(spec.gradient_accumulation_steps, 1)
    rows = batch * accumulation * spec.devices
    steps_per_epoch = max(1, math.ceil(examples / rows))
    effort = _EFFORT[spec.preset]
    usual_epochs = min(effort.epochs, max(1, math.ceil(effort.steps / steps_per_epoch)))
    epochs = or_auto(spec.num_train_epochs, float(usual_epochs))
    steps = or_auto(spec.max_steps, max(1, math.ceil(steps_per_epoch * epochs)))
    validations = _validations(rows * steps, validation_examples)
    eval_steps = or_auto(spec.eval_steps, max(1, math.ceil(steps / validations)))
    return {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": steps / steps_per_epoch if spec.max_steps != "auto" else epochs,
        "max_steps": steps,
        "eval_steps": eval_steps,
        "save_steps": or_auto(spec.save_steps, _save_steps(steps, eval_steps)),
    }


def _validations(rows: int, validation_examples: int) -> int:
    """How often a run that learns from so many ``rows`` in all is evaluated."""
    affordable = _VALIDATION_SHARE / _FORWARD_SHARE * rows / max(1, validation_examples)
    return min(_USUAL_VALIDATIONS, max(_FEWEST_VALIDATIONS, int(affordable)))


def _save_steps(steps: int, eval_steps: int) -> int:
    """About a quarter of the run, and a multiple of ``eval_steps`` where that is less."""
    quarter = max(1, math.ceil(steps / 4))
    return quarter if eval_steps > quarter else eval_steps * math.ceil(quarter / eval_steps)


def _lengths(
    spec: FineTuneSpec, context_length: int, family: Family, longest: Longest
) -> dict[str, Any]:
    # Positions of seq2seq models are relative: what is asked for is taken, long or not.
    most = context_length if family == "causal" else 131_072
    row = min(_ROW[longest.row > _ROW[0]], context_length)
    answer = _ANSWER[longest.target > _ANSWER[0]]
    return {
        "max_length": min(or_auto(spec.max_length, row), most),
        "max_target_length": min(or_auto(spec.max_target_length, answer), most),
    }


def _adapter(spec: FineTuneSpec) -> dict[str, Any]:
    rank = or_auto(spec.lora_r, _EFFORT[spec.preset].rank)
    return {
        "lora_r": rank,
        "lora_alpha": or_auto(spec.lora_alpha, 2 * rank),
        "lora_dropout": or_auto(spec.lora_dropout, 0.0),
        "target_modules": or_auto(spec.target_modules, "all-linear"),
    }
