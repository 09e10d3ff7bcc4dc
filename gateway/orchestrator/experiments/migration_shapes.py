"""A route's migration in steps: what it is asked to do, how it is shown. Knows no database."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.orchestrator.experiments.spec import Goal, Terms
from gateway.orchestrator.experiments.store import ExperimentView, Made
from gateway.orchestrator.routes import RoutePlace

MigrationStatus = Literal["running", "paused", "succeeded", "failed", "stopped"]


class MigrationSpec(Terms):
    """``steps``: the new target's shares, rising; 0 stands for shadow, 1 is the end."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)

    source: RoutePlace = Field(alias="from")
    target: RoutePlace = Field(alias="to")
    goal: Goal = "non_inferiority"
    margin: float | None = Field(0.05, gt=0, le=3600, allow_inf_nan=False)
    steps: list[float] = Field(default_factory=lambda: [0.0, 0.1, 0.5, 1.0], max_length=20)
    shadow_share: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    on_setback: Literal["step_back", "start"] = "step_back"
    max_setbacks: int = Field(3, ge=1, le=20)

    @model_validator(mode="after")
    def _a_ladder(self) -> Self:
        if self.goal != "non_inferiority":
            raise ValueError("goal: a migration's is non_inferiority")
        if self.source == self.target:
            raise ValueError("to: must be another target than from")
        steps = self.steps
        if len(steps) < 2 or steps[-1] != 1 or not all(0 <= step <= 1 for step in steps):
            raise ValueError("steps: must be shares from 0 up to 1, and end with 1")
        if sorted(set(steps)) != steps:
            raise ValueError("steps: must rise")
        return self


class StepView(BaseModel):
    """``state``: waits, runs, held, or (where it is to be taken again) set_back."""

    share: float
    state: Literal["waits", "runs", "held", "set_back"]
    experiment: ExperimentView | None


class MigrationView(BaseModel):
    """A migration as its owner sees it."""

    model_config = ConfigDict(serialize_by_alias=True)

    id: str
    route: str
    status: MigrationStatus
    source: str = Field(serialization_alias="from")
    target: str = Field(serialization_alias="to")
    step: int
    setbacks: int
    spec: MigrationSpec
    steps: list[StepView]
    decisions: list[Made]
    created_at: datetime
    ended_at: datetime | None
