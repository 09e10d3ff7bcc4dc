"""What a loop is asked to do. Pure."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gateway.evaluations.gates import GateRule
from gateway.orchestrator.routes import NAME_PATTERN


class LoopSpec(BaseModel):
    """A run like an earlier one on other data; an evaluation like an earlier one, of ``baseline``
    and the new model; where all ``rules`` hold, a deployment, and its share of a route."""

    model_config = ConfigDict(extra="forbid")

    dataset_id: str = Field(min_length=1, max_length=80)
    like_run: str = Field(min_length=1, max_length=80, description="Its settings are used again.")
    like_evaluation: str = Field(
        min_length=1, max_length=80, description="Its data, metrics and judge are used again."
    )
    baseline: str | None = Field(
        None, min_length=1, max_length=500, description="Default: the model of `like_run`."
    )
    rules: list[GateRule] = Field(min_length=1, max_length=20)
    deployment: str = Field(pattern=NAME_PATTERN)
    route: str | None = Field(None, pattern=NAME_PATTERN)
    weight: float = Field(100, gt=0, le=100, allow_inf_nan=False, description="Percent.")


def run_spec(earlier: dict[str, Any], dataset_id: str) -> dict[str, Any]:
    """The earlier run's spec on other data, from the base model on."""
    left_out = ("dataset_id", "datasets", "continue_from")
    kept = {name: value for name, value in earlier.items() if name not in left_out}
    return kept | {"dataset_id": dataset_id}


def evaluation_spec(earlier: dict[str, Any], *, baseline: str, run_id: str) -> dict[str, Any]:
    """The earlier evaluation's spec for other candidates. (Where it asked what a run had held out,
    the same rows are asked again, and not those that were learned.)"""
    left_out = ("name", "candidates", "baseline")
    kept = {name: value for name, value in earlier.items() if name not in left_out}
    return kept | {"candidates": [baseline, run_id], "baseline": baseline}
