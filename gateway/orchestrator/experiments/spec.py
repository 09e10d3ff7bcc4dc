"""What an experiment is asked to do: the body of its start. Knows no database."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.orchestrator.routes import RoutePlace

Outcome = Literal["thumbs", "judge", "rendered", "answered", "latency"]
Goal = Literal["superiority", "non_inferiority"]
# live: both arms answer readers; shadow: the treatment is asked the same in the background; alone:
# the treatment answers all, and is compared with what the control did in the step before.
Mode = Literal["live", "shadow", "alone"]


class Guardrails(BaseModel):
    """What rolls back, whatever the outcome says. Errors and fallbacks of the treatment may be a
    larger share than the control's by ``max_error_increase``; half of its answers must come within
    ``p50_seconds``, and 95 of 100 within ``p95_seconds``."""

    model_config = ConfigDict(extra="forbid")

    max_error_increase: float | None = Field(0.02, ge=0, lt=1, allow_inf_nan=False)
    p50_seconds: float | None = Field(None, gt=0, le=3600, allow_inf_nan=False)
    p95_seconds: float | None = Field(None, gt=0, le=3600, allow_inf_nan=False)


class Terms(BaseModel):
    """What is compared, and what decides. ``margin`` and ``min_effect`` are shares of 1 or, for
    latency, seconds."""

    model_config = ConfigDict(extra="forbid")

    outcome: Outcome = "thumbs"
    judge: str | None = Field(
        None, min_length=1, max_length=200,
        description="Who judges: a route, a deployment or upstream/NAME; for the outcome judge.",
    )  # fmt: skip
    rubric: str = Field("", max_length=20_000, description="Of the judge; empty: the bundled one.")
    goal: Goal = "superiority"
    margin: float | None = Field(
        None, gt=0, le=3600, allow_inf_nan=False,
        description="By how much the treatment may be worse; for non_inferiority.",
    )  # fmt: skip
    min_effect: float | None = Field(
        None, gt=0, le=3600, allow_inf_nan=False,
        description="The smallest gain worth finding; the needed number of units follows from it.",
    )  # fmt: skip
    latency_cap_seconds: float = Field(
        30, gt=0, le=3600, allow_inf_nan=False, description="Longer answers count as this long."
    )
    guardrails: Guardrails = Field(default_factory=lambda: Guardrails.model_validate({}))
    alpha: float = Field(
        0.05, ge=0.001, le=0.2, description="The chance of a wrong stop, by whatever rule."
    )
    power: float = Field(0.8, ge=0.5, le=0.99)
    max_days: float = Field(28, gt=0, le=365, allow_inf_nan=False)

    @model_validator(mode="after")
    def _distances_fit(self) -> Self:
        if self.goal == "non_inferiority" and self.margin is None:
            raise ValueError("margin: say by how much the treatment may be worse")
        if (self.outcome == "judge") != (self.judge is not None):
            raise ValueError("judge: names who judges where the outcome is judge, and only there")
        if self.goal == "superiority" and self.margin is not None:
            raise ValueError("margin: is for the goal non_inferiority")
        for name, value in (("margin", self.margin), ("min_effect", self.min_effect)):
            if value is not None and value >= self.scale:
                raise ValueError(f"{name}: must be below {self.scale:g}")
        return self

    @property
    def scale(self) -> float:
        """What an outcome of 1 is in its own unit: a share, or seconds."""
        return self.latency_cap_seconds if self.outcome == "latency" else 1.0

    @property
    def null(self) -> float:
        """The difference that is to be refuted, of outcomes from 0 to 1."""
        return -(self.margin or 0.0) / self.scale

    @property
    def effect(self) -> float:
        """The true difference for which units are planned: none, for one that is not worse."""
        if self.goal == "non_inferiority":
            return 0.0
        default = 0.05 if self.outcome != "latency" else 0.05 * self.scale
        return (self.min_effect or default) / self.scale


class ExperimentSpec(Terms):
    """``control`` is a target of the route; ``treatment`` is given ``share`` of its requests."""

    control: RoutePlace
    treatment: RoutePlace
    share: float = Field(0.5, gt=0, lt=1, allow_inf_nan=False)
    on_success: Literal["promote", "none"] = "promote"
    promote_to: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    on_failure: Literal["roll_back", "none"] = "roll_back"

    @model_validator(mode="after")
    def _two_arms(self) -> Self:
        if self.control == self.treatment:
            raise ValueError("treatment: must be another target than the control")
        return self
