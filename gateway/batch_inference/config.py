"""What `genplat batch` is to do, from a flat YAML file and flags. Knows no platform."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gateway.flat_config import Content, Keys
from shared.errors import InvalidRequest
from shared.storage import MANIFEST

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,69}$"
_HUB_REPO = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
MAX_STOPS = 4


class BatchConfig(BaseModel):
    """Chat parameters have OpenAI's names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str = Field(
        min_length=1,
        max_length=4096,
        description="a file (csv, jsonl, json, parquet), the id or name of a dataset, or a hub's "
        "owner/name",
    )
    split: str = Field("train", min_length=1, max_length=200, description="of a hub's dataset")
    offset: int = Field(0, ge=0, description="so many rows are left out at the beginning")
    limit: int | None = Field(None, ge=1, description="so many rows at most")
    text_column: str | None = Field(None, description="the column of the texts, if not found")
    target_column: str | None = Field(None, description="the column of the desired answers")
    system_column: str | None = Field(None, description="a column of system messages")
    model: str = Field(
        min_length=1,
        max_length=4096,
        description="what chat accepts, a run's id, upstream/NAME, or the folder of a training",
    )
    system_prompt: str = Field("", description="before conversations without a system message")
    task_prefix: str = Field(
        "", description="before each last question; a fine-tuned model knows its own already"
    )
    max_tokens: int | None = Field(None, ge=1, le=131_072, description="of an answer")
    temperature: float = Field(0, ge=0, le=2, allow_inf_nan=False, description="0: no chance")
    top_p: float | None = Field(None, gt=0, le=1, description="of the likeliest tokens")
    seed: int | None = Field(None, ge=-(2**63), lt=2**63, description="of chance")
    stop: list[str] | None = Field(None, max_length=MAX_STOPS, description="texts that end it")
    concurrency: int | Literal["auto"] = Field(
        "auto", description="requests at once; auto: as many as the model answers at once"
    )
    output_dir: Path | None = Field(
        None, description="where the results go; default: batches/NAME in the data folder"
    )
    name: str = Field("", description="of the results; default: the dataset's")
    push_to_hub: str | None = Field(
        None, pattern=_HUB_REPO, description="a hub's dataset repository (needs HF_TOKEN)"
    )
    private: bool = Field(True, description="whether that repository is made a private one")
    retry_failed: bool = Field(False, description="ask again for rows that failed before")

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_several(cls, stop: object) -> object:
        return [stop] if isinstance(stop, str) else stop

    def parameters(self) -> dict[str, Any]:
        """What of a request is the same for all rows."""
        names = ("max_tokens", "temperature", "top_p", "seed", "stop")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def decisive(self) -> dict[str, Any]:
        """What answers depend on beside rows and weights: a batch goes on with the same only."""
        return self.parameters() | {
            "system_prompt": self.system_prompt,
            "task_prefix": self.task_prefix,
        }

    @property
    def result_name(self) -> str:
        """A name for files; of a dataset's name that cannot be one, the part that can."""
        if self.name:
            return self.name
        given = Path(self.dataset).stem if Path(self.dataset).is_absolute() else self.dataset
        return re.sub(r"[^A-Za-z0-9_-]+", "-", given).strip("-_")[:70] or "batch"


def fingerprint(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _is_training(path: Path) -> bool:
    return any((folder / MANIFEST).is_file() for folder in (path / "result", path))


BATCH = Keys(
    command="genplat batch",
    known=tuple(BatchConfig.model_fields),
    aliases={
        "base_model": "model",
        "batch_size": "concurrency",
        "hub_repo": "push_to_hub",
        "max_new_tokens": "max_tokens",
        "max_samples": "limit",
        "model_name_or_path": "model",
        "output": "output_dir",
        "prompt": "system_prompt",
    },
    paths={
        "dataset": Path.is_file,
        "model": _is_training,
        "output_dir": lambda _: True,
    },
)


def flags() -> dict[str, tuple[str, str]]:
    """For each key, what stands for its value in the help, and what it is for."""
    return {
        name: ("VALUE", field.description or "") for name, field in BatchConfig.model_fields.items()
    }


def batch_config(content: Content) -> BatchConfig:
    """Raises `InvalidRequest` with the key that is wrong. A key without a value is as good as
    none."""
    given = {name: value for name, value in content.items() if value is not None}
    try:
        config = BatchConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])
        raise InvalidRequest(f"{name}: {first['msg']}.", param=name) from error
    if config.concurrency != "auto" and not 1 <= config.concurrency <= 1024:
        raise InvalidRequest("concurrency must be auto or 1 to 1024.", param="concurrency")
    if config.name and not re.fullmatch(_NAME, config.name):
        raise InvalidRequest(
            "name must be 1 to 70 letters, digits, - and _, a letter or digit first.", param="name"
        )
    return config
