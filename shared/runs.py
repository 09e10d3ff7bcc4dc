"""A fine-tuning run as it crosses process boundaries: its spec, its command, its states."""

import math
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

RunStatus = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]
Phase = Literal["preparing", "loading_model", "training", "evaluating", "saving"]
Method = Literal["lora", "qlora"]
Auto = Literal["auto"]

TERMINAL: frozenset[RunStatus] = frozenset({"succeeded", "failed", "cancelled"})

Suffix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$|^$")]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]


class FineTuneSpec(BaseModel):
    """What a user asks for. Names are those of Hugging Face and PEFT; each number may be "auto"."""

    model_config = ConfigDict(extra="forbid")

    base_model: str = Field(min_length=1, max_length=200)
    dataset_id: str = Field(min_length=1, max_length=80)
    validation_dataset_id: str | None = Field(None, max_length=80)
    validation_split: float = Field(
        0.1, ge=0, lt=1, description="Share of source texts kept for validation; 0 for none."
    )
    method: Method = "lora"
    suffix: Suffix = ""
    seed: int = Field(42, ge=0, le=2**31 - 1)
    task_prefix: str = Field("", max_length=500, description="Goes before each source text.")

    num_train_epochs: Annotated[float, Field(gt=0, le=1000)] | Auto = "auto"
    max_steps: Positive | Auto = "auto"
    learning_rate: Annotated[float, Field(gt=0, le=1)] | Auto = "auto"
    per_device_train_batch_size: Annotated[int, Field(ge=1, le=1024)] | Auto = "auto"
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=1024)] | Auto = "auto"
    max_length: Annotated[int, Field(ge=16, le=131_072)] | Auto = "auto"
    lr_scheduler_type: Literal["linear", "cosine", "constant"] | Auto = "auto"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | Auto = "auto"
    weight_decay: Annotated[float, Field(ge=0, le=10)] | Auto = "auto"
    max_grad_norm: Annotated[float, Field(gt=0, le=1000)] | Auto = "auto"
    lora_r: Annotated[int, Field(ge=1, le=512)] | Auto = "auto"
    lora_alpha: Annotated[int, Field(ge=1, le=2048)] | Auto = "auto"
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | Auto = "auto"
    target_modules: list[Annotated[str, Field(max_length=100)]] | Literal["all-linear"] | Auto = (
        "auto"
    )
    eval_steps: Positive | Auto = "auto"
    save_steps: Positive | Auto = "auto"
    gradient_checkpointing: bool | Auto = "auto"

    @model_validator(mode="after")
    def _finite(self) -> Self:
        for name, value in self:
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number")
        return self


class Hyperparameters(BaseModel):
    """A spec's numbers with every "auto" decided."""

    model_config = ConfigDict(frozen=True)

    num_train_epochs: float
    max_steps: int = Field(description="Optimizer steps in all.")
    learning_rate: float
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    max_length: int
    lr_scheduler_type: Literal["linear", "cosine", "constant"]
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    lora_r: int
    lora_alpha: int
    lora_dropout: float
    target_modules: list[str] | Literal["all-linear"]
    eval_steps: int
    save_steps: int
    gradient_checkpointing: bool


_Value = TypeVar("_Value")


def or_auto(value: _Value | Auto, auto: _Value) -> _Value:
    """``value``, or the ``auto`` choice where the user left it open."""
    return auto if value == "auto" else value


def resolve_hyperparameters(
    spec: FineTuneSpec, *, examples: int, context_length: int
) -> Hyperparameters:
    """Decide every "auto" of ``spec`` for ``examples`` training rows.

    The rules: small sets get small batches, because the number of optimizer steps counts for
    more than the batch size there (batch 2 below 1,000 rows, 8 above 10,000, else 4) and a high
    LoRA learning rate (1e-3, 5e-4, 2e-4 for the same sizes); epochs until about 200 steps, at
    least 1, at most 3; evaluation ten times and a checkpoint four times a run.
    """

    size = 0 if examples < 1_000 else 1 if examples <= 10_000 else 2
    batch = or_auto(spec.per_device_train_batch_size, (2, 4, 8)[size])
    accumulation = or_auto(spec.gradient_accumulation_steps, 1)
    steps_per_epoch = max(1, math.ceil(examples / (batch * accumulation)))
    epochs = or_auto(spec.num_train_epochs, float(min(3, max(1, math.ceil(200 / steps_per_epoch)))))
    steps = or_auto(spec.max_steps, max(1, math.ceil(steps_per_epoch * epochs)))
    rank = or_auto(spec.lora_r, 16)
    modules: list[str] | Literal["all-linear"] = (
        "all-linear" if spec.target_modules == "auto" else spec.target_modules
    )
    return Hyperparameters(
        num_train_epochs=steps / steps_per_epoch if spec.max_steps != "auto" else epochs,
        max_steps=steps,
        learning_rate=or_auto(spec.learning_rate, (1e-3, 5e-4, 2e-4)[size]),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        max_length=min(or_auto(spec.max_length, min(1024, context_length)), context_length),
        lr_scheduler_type=or_auto(spec.lr_scheduler_type, "linear"),
        warmup_ratio=or_auto(spec.warmup_ratio, 0.05),
        weight_decay=or_auto(spec.weight_decay, 0.0),
        max_grad_norm=or_auto(spec.max_grad_norm, 1.0),
        lora_r=rank,
        lora_alpha=or_auto(spec.lora_alpha, 2 * rank),
        lora_dropout=or_auto(spec.lora_dropout, 0.0),
        target_modules=modules,
        eval_steps=or_auto(spec.eval_steps, max(1, math.ceil(steps / 10))),
        save_steps=or_auto(spec.save_steps, max(1, math.ceil(steps / 4))),
        gradient_checkpointing=or_auto(spec.gradient_checkpointing, False),
    )


class DatasetRef(BaseModel):
    """A dataset as the trainer is told of it: canonical records, checked against their hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    records_sha256: str


class RunCommand(BaseModel):
    """`train this`: everything a worker needs. ``attempt`` is the fencing token;
    ``base_model_folder`` is where a base model lies that was added as a folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    attempt: int = Field(ge=1)
    spec: FineTuneSpec
    dataset: DatasetRef
    validation: DatasetRef | None = None
    base_model_folder: Path | None = None

    @property
    def job_id(self) -> str:
        return f"{self.run_id}:{self.attempt}"
