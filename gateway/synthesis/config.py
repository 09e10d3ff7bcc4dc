"""What `genplat synthesize` is to do, from a flat YAML file and flags. Knows no platform."""

import re
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, field_validator, model_validator

from gateway.flat_config import Content, Keys, check_folder
from gateway.synthesis.spec import Wishes
from gateway.validation import refusal
from shared.storage import MANIFEST

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,70}")
_DATA = "a file (csv, jsonl, json, parquet), or the id or name of a dataset"


class SynthesizeConfig(Wishes):
    """The keys of `POST /api/syntheses`, with files where that has ids."""

    dataset: str | None = Field(None, min_length=1, description=f"the seed: {_DATA}")
    failures: str | None = Field(
        None, min_length=1, description=f"what a model got wrong, to be aimed at: {_DATA}"
    )
    clusters: int | str = Field("auto", description="kinds of failures, 1 to 12")
    leakage: tuple[str, ...] = Field(
        (), max_length=10, description="files or datasets whose rows must not come out again"
    )
    text_column: str | None = Field(None, description="the column of the texts, if not found")
    target_column: str | None = Field(None, description="the column of the desired answers")
    system_column: str | None = Field(None, description="a column of system messages")
    include_seed: bool = Field(False, description="the seed's rows before the new ones")
    output_dir: Path = Field(description="where the results go")
    name: str = Field("", description="of the results; default: the seed's name")

    @field_validator("axes", "leakage", mode="before")
    @classmethod
    def _one_or_several(cls, given: object) -> object:
        """(A flag that is no list is one of them.)"""
        return (given,) if isinstance(given, str) else given

    @field_validator("clusters", mode="before")
    @classmethod
    def _count(cls, given: object) -> object:
        return int(given) if isinstance(given, str) and given.isdecimal() else given

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.dataset is None and self.failures is None:
            raise ValueError("give dataset, or failures, or both")
        if self.clusters != "auto" and not (
            isinstance(self.clusters, int) and 1 <= self.clusters <= 12
        ):
            raise ValueError("clusters must be auto or 1 to 12")
        if self.name and not _NAME.fullmatch(self.name):
            raise ValueError("name must be 1 to 70 letters, digits, - and _")
        return self

    @property
    def result_name(self) -> str:
        if self.name:
            return self.name
        given = str(self.dataset or self.failures)
        stem = Path(given).stem if Path(given).is_absolute() else given
        return re.sub(r"[^A-Za-z0-9_-]+", "-", f"{stem}_synthetic").strip("-_")[:70] or "synthetic"

    @property
    def decisive(self) -> Content:
        """What the rows depend on beside the data and the weights."""
        return Wishes.model_validate(self.model_dump(include=set(Wishes.model_fields))).model_dump(
            mode="json"
        ) | {"clusters": self.clusters}


def _is_training(path: Path) -> bool:
    return any((folder / MANIFEST).is_file() for folder in (path / "result", path))


SYNTHESIZE = Keys(
    command="genplat synthesize",
    known=tuple(SynthesizeConfig.model_fields),
    aliases={
        "evaluation": "failures",
        "generator": "model",
        "num_rows": "count",
        "output": "output_dir",
        "rows": "count",
        "seeds": "dataset",
    },
    paths={
        "dataset": Path.is_file,
        "failures": Path.is_file,
        "model": _is_training,
        "judge": _is_training,
        "output_dir": lambda _: True,
    },
)


def flags() -> dict[str, tuple[str, str]]:
    """For each key, what stands for its value in the help, and what it is for."""
    return {
        name: ("VALUE", field.description or "")
        for name, field in SynthesizeConfig.model_fields.items()
    }


def synthesize_config(content: Content, folder: Path) -> SynthesizeConfig:
    """Raises `InvalidRequest` with the key that is wrong. Files of ``leakage`` are relative to
    ``folder``."""
    try:
        config = SynthesizeConfig.model_validate(content)
    except ValidationError as error:
        raise refusal(error) from error
    check_folder(config.output_dir)
    found = tuple(
        str((folder / one).resolve()) if (folder / one).is_file() else one for one in config.leakage
    )
    return config.model_copy(update={"leakage": found})
