"""A fine-tuning run as it crosses process boundaries: its spec, its command, its states."""

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo
from pydantic.functional_validators import field_validator, model_validator

RunStatus = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]
Phase = Literal["preparing", "loading_model", "training", "evaluating", "saving"]
Method = Literal["full", "lora", "qlora"]
Family = Literal["causal", "seq2seq"]
Preset = Literal["fast", "balanced", "thorough"]
Scheduler = Literal["linear", "cosine", "constant"]
Auto = Literal["auto"]
Sharding = Literal["auto", "none", "full"]

TERMINAL: frozenset[RunStatus] = frozenset({"succeeded", "failed", "cancelled"})

Suffix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$|^$")]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]
DatasetId = Annotated[str, Field(min_length=1, max_length=80)]
MAX_DATASETS = 16


class WeightedDataset(BaseModel):
    """One of several datasets of a run. An epoch sees each of its rows ``weight`` times: of 2.5,
    all rows twice and a random half of them once more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: DatasetId
    weight: float = Field(1.0, gt=0, le=100, allow_inf_nan=False)


class FineTuneSpec(BaseModel):
    """What a user asks for. Names are those of Hugging Face and PEFT; each number may be "auto",
    which `shared.hyperparameters` decides by ``preset``, method, model and number of rows.

    ``task_prefix`` None takes the base model's own from the library. ``continue_from`` names a
    finished run of yours, one of its checkpoints (``RUN:ckpt-step-N``) or the fine-tuned model:
    training goes on from those weights, with a fresh optimizer and schedule.
    """

    model_config = ConfigDict(extra="forbid")

    base_model: str = Field(min_length=1, max_length=200)
    dataset_id: DatasetId | None = None
    datasets: list[WeightedDataset] = Field(default_factory=list, max_length=MAX_DATASETS)
    validation_dataset_id: str | None = Field(None, max_length=80)
    validation_split: float = Field(
        0.1, ge=0, lt=1, description="Share of source texts kept for validation; 0 for none."
    )
    method: Method = "lora"
    suffix: Suffix = ""
    seed: int = Field(42, ge=0, le=2**31 - 1)
    preset: Preset = "balanced"
    task_prefix: str | None = Field(
        None, max_length=500, description="Goes before each source text."
    )
    continue_from: str | None = Field(None, min_length=1, max_length=300)
    devices: int = Field(
        1, ge=1, le=64, description="GPUs (or processes on a CPU) of one worker that share a step."
    )
    sharding: Sharding = Field(
        "auto", description="full: devices divide the model too; auto: where one cannot hold it."
    )

    num_train_epochs: Annotated[float, Field(gt=0, le=1000)] | Auto = "auto"
    max_steps: Positive | Auto = "auto"
    learning_rate: Annotated[float, Field(gt=0, le=1)] | Auto = "auto"
    per_device_train_batch_size: Annotated[int, Field(ge=1, le=1024)] | Auto = "auto"
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=1024)] | Auto = "auto"
    max_length: Annotated[int, Field(ge=16, le=131_072)] | Auto = "auto"
    max_target_length: Annotated[int, Field(ge=1, le=131_072)] | Auto = "auto"
    lr_scheduler_type: Scheduler | Auto = "auto"
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
    save_steps: Positive | Auto = Field(
        "auto", description="Each checkpoint is evaluated, where there are validation rows."
    )
    early_stopping_patience: Annotated[int, Field(ge=0, le=1000)] | Auto = Field(
        "auto",
        description="Evaluations, of every eval_steps, without a better validation loss; 0: never "
        "stop early.",
    )
    load_best_model_at_end: bool | Auto = "auto"
    gradient_checkpointing: bool | Auto = "auto"

    @property
    def sources(self) -> tuple[WeightedDataset, ...]:
        """What the run learns from, whichever way it was named."""
        if self.dataset_id is not None:
            return (WeightedDataset(id=self.dataset_id),)
        return tuple(self.datasets)

    @model_validator(mode="after")
    def _one_way_to_name_data(self) -> Self:
        if (self.dataset_id is None) == (not self.datasets):
            raise ValueError("give either dataset_id or datasets")
        if len({source.id for source in self.datasets}) < len(self.datasets):
            raise ValueError("datasets names one dataset twice: raise its weight instead")
        return self

    @field_validator("learning_rate", mode="before")
    @classmethod
    def _can_learn(cls, rate: object) -> object:
        if isinstance(rate, int | float) and rate > 1:
            raise ValueError(
                "above 1 training diverges; usual are about 1e-3 with LoRA and 5e-5 in "
                "full, and auto decides by your data"
            )
        return rate

    @field_validator("sharding")
    @classmethod
    def _can_be_sharded(cls, sharding: Sharding, info: ValidationInfo) -> Sharding:
        if sharding == "full" and info.data.get("devices") == 1:
            raise ValueError("full divides the model among devices: set devices above 1")
        if sharding == "full" and info.data.get("method") == "qlora":
            raise ValueError("full cannot divide four-bit weights: choose method lora, or auto")
        return sharding

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
    max_length: int = Field(description="Tokens of a row; of a source text for seq2seq.")
    max_target_length: int = Field(description="Tokens of an answer; only for seq2seq.")
    lr_scheduler_type: Scheduler
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    lora_r: int
    lora_alpha: int
    lora_dropout: float
    target_modules: list[str] | Literal["all-linear"]
    eval_steps: int
    save_steps: int
    early_stopping_patience: int = Field(description="0: never.")
    load_best_model_at_end: bool
    gradient_checkpointing: bool


class DatasetRef(BaseModel):
    """A dataset as the trainer is told of it: canonical records, checked against their hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    records_sha256: str
    weight: float = 1.0


class ContinueFrom(BaseModel):
    """Where a run's first weights come from: another run's result, or its checkpoint ``step``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    step: int | None = None


class RunCommand(BaseModel):
    """`train this`: everything a worker needs. ``attempt`` is the fencing token;
    ``base_model_folder`` is where a base model lies that was added as a folder; ``chat_template``
    is the library's, for a base model whose tokenizer has none; ``request_id`` is that of the
    request that made the run, for the logs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    attempt: int = Field(ge=1)
    spec: FineTuneSpec
    datasets: tuple[DatasetRef, ...] = Field(min_length=1)
    validation: DatasetRef | None = None
    base_model_folder: Path | None = None
    chat_template: str = ""
    continue_from: ContinueFrom | None = None
    request_id: str | None = None

    @property
    def job_id(self) -> str:
        return f"{self.run_id}:{self.attempt}"
