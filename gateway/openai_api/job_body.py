"""The body of OpenAI's request for a fine-tuning job.

OpenAI's fields come first; everything else that a `FineTuneSpec` can say goes into ``genplat``.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.runs import Auto

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JobHyperparameters(_Body):
    """``learning_rate_multiplier`` times what "auto" would choose is the learning rate."""

    n_epochs: Annotated[int, Field(ge=1, le=50)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Auto = "auto"


class SupervisedMethod(_Body):
    hyperparameters: JobHyperparameters | None = None


class JobMethod(_Body):
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedMethod | None = None
    dpo: dict[str, Any] | None = None
    reinforcement: dict[str, Any] | None = None


class JobRequest(_Body):
    """What `POST /v1/fine_tuning/jobs` takes. ``model`` is a base model of the library, or a
    fine-tuned model to go on from; ``hyperparameters`` is the older place for those of
    ``method``; ``genplat`` holds any other field of POST /api/runs."""

    model: str = Field(min_length=1, max_length=300)
    training_file: str = Field(max_length=200)
    validation_file: str | None = Field(None, max_length=200)
    method: JobMethod | None = None
    hyperparameters: JobHyperparameters | None = None
    seed: int | None = None
    suffix: str | None = None
    metadata: dict[MetadataKey, MetadataValue] | None = Field(None, max_length=16)
    integrations: list[Any] | None = None
    genplat: dict[str, Any] = Field(
        default_factory=dict, description="Other fields of a fine-tuning: method, lora_r, …"
    )
