"""Where an experiment stands, and what follows from it. Pure: figures in, a decision out."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean, quantiles, variance
from typing import Literal

from pydantic import BaseModel

from gateway.orchestrator.experiments.arms import Arm, Arms
from gateway.orchestrator.experiments.sample_size import (
    PAIRS,
    Shape,
    days_left,
    graded,
    needed_blocks,
    shape_of,
    yes_or_no,
)
from gateway.orchestrator.experiments.spec import Guardrails, Mode, Terms
from gateway.orchestrator.experiments.statistics import (
    compare,
    lower_bound,
    lowest_difference,
    tally_of,
)

Status = Literal["running", "succeeded", "failed", "stopped", "rolled_back"]
# Fewer than this say little of an arm's rate; until then the worst case is planned for.
_ENOUGH = 20
# Alpha is the chance of a wrong stop by whatever rule: the outcome's part, where there are
# guardrails; they share the rest.
_OUTCOMES_PART = 0.8


class ArmStanding(BaseModel):
    """``rate``: its outcomes' mean, a share or (for latency) seconds."""

    label: str
    requests: int
    errors: int
    units: int
    rate: float | None
    p50_seconds: float | None
    p95_seconds: float | None


class Guard(BaseModel):
    """A guardrail: ``value`` is measured, ``proved`` is what it is at least, ``limit`` what it may
    be."""

    name: str
    value: float | None
    proved: float
    limit: float
    tripped: bool


class Standing(BaseModel):
    """``difference`` says by how much the treatment is better: a share or, for latency, seconds.
    ``low`` to ``high`` holds the true one at all times together."""

    at: datetime
    control: ArmStanding
    treatment: ArmStanding
    difference: float | None
    low: float
    high: float
    null: float
    p_value: float
    units: int
    needed_units: int | None
    days_left: float | None
    guards: list[Guard]
    # As many requests as can be counted have come.
    is_full: bool = False


@dataclass(frozen=True)
class Decision:
    """What is to be done now; ``why`` is a sentence for people."""

    status: Status
    why: str


def stand(
    *,
    arms: Arms,
    terms: Terms,
    share: float,
    at: datetime,
    began: datetime,
    before: Standing | None = None,
    is_full: bool = False,
) -> Standing:
    """The figures of a look. ``share`` is what the treatment gets: 0 for a shadow, 1 alone. What
    the looks ``before`` have excluded stays excluded: the interval holds at all times together, so
    it may only shrink."""
    alpha = _alpha_of_outcome(terms)
    found = compare(arms.by_outcome.differences, alpha=alpha, null=terms.null)
    scale = terms.scale
    low, high = found.low * scale, found.high * scale
    # As much larger as its part of alpha is smaller: below alpha it has decided.
    p_value = min(1.0, found.p_value * terms.alpha / alpha)
    if before is not None and max(low, before.low) <= min(high, before.high):
        low, high = max(low, before.low), min(high, before.high)
        p_value = min(p_value, before.p_value)
    units, needed = arms.by_outcome.units, needed_units(arms, terms, _shape(arms, share))
    days = (at - began) / timedelta(days=1)
    return Standing(
        at=at,
        control=_arm(arms.control, terms),
        treatment=_arm(arms.treatment, terms),
        difference=None if found.difference is None else found.difference * scale,
        low=low,
        high=high,
        null=terms.null * scale,
        p_value=p_value,
        units=units,
        needed_units=needed,
        days_left=None
        if needed is None
        else days_left(needed_units=needed, seen_units=units, seen_days=days),
        guards=_guards(arms, terms),
        is_full=is_full,
    )


def decide(*, standing: Standing, terms: Terms, began: datetime, mode: Mode = "live") -> Decision:
    """Guardrails before the outcome, the outcome before the time that is over. ``mode`` alone: it
    is enough that nothing speaks against the treatment until it has given as many outcomes as there
    are to compare with."""
    for guard in standing.guards:
        if guard.tripped:
            return Decision(
                "rolled_back",
                f"Guardrail {guard.name}: at least {guard.proved:.4g}, where {guard.limit:.4g} is "
                f"allowed.",
            )
    figures = (
        f"{standing.treatment.label} against {standing.control.label}: {_signed(standing)} in "
        f"{terms.outcome} ({standing.low:+.4g} to {standing.high:+.4g}) after {standing.units} "
        f"units"
    )
    if standing.low > standing.null:
        proved = "is better" if terms.goal == "superiority" else f"is not worse by {terms.margin:g}"
        return Decision("succeeded", f"The treatment {proved}. {figures}.")
    if standing.high < standing.null:
        proved = "is worse" if terms.goal == "superiority" else f"is worse by over {terms.margin:g}"
        return Decision("failed", f"The treatment {proved}. {figures}.")
    if mode == "alone" and standing.treatment.units >= standing.control.units:
        return Decision("succeeded", f"Nothing speaks against the treatment. {figures}.")
    if standing.at - began >= timedelta(days=terms.max_days):
        return Decision("failed", f"The time is over ({terms.max_days:g} days). {figures}.")
    if standing.is_full:
        return Decision("failed", f"More requests than can be counted decided nothing. {figures}.")
    return Decision("running", figures + ".")


def _signed(standing: Standing) -> str:
    return "nothing yet" if standing.difference is None else f"{standing.difference:+.4g}"


def _arm(arm: Arm, terms: Terms) -> ArmStanding:
    rate = fmean(arm.outcomes) if arm.outcomes else None
    if rate is not None and terms.outcome == "latency":
        rate = (1 - rate) * terms.scale
    # (Of a single answer there are no quantiles.)
    cuts = quantiles(arm.seconds, n=20, method="inclusive") if len(arm.seconds) > 1 else None
    return ArmStanding(
        label=arm.label,
        requests=len(arm.errors),
        errors=round(sum(arm.errors)),
        units=len(arm.outcomes),
        rate=rate,
        p50_seconds=cuts[9] if cuts else None,
        p95_seconds=cuts[18] if cuts else None,
    )


def _alpha_of_outcome(terms: Terms) -> float:
    return terms.alpha * (_OUTCOMES_PART if _count(terms.guardrails) else 1)


def _count(guardrails: Guardrails) -> int:
    return sum(limit is not None for limit in guardrails.model_dump().values())


def _guards(arms: Arms, terms: Terms) -> list[Guard]:
    limits, guards = terms.guardrails, []
    alpha = (terms.alpha - _alpha_of_outcome(terms)) / max(1, _count(limits))
    if (most := limits.max_error_increase) is not None:
        more = arms.by_error.differences
        proved = lowest_difference(more, alpha)
        guards.append(
            Guard(
                name="max_error_increase",
                value=fmean(more) if more else None,
                proved=proved,
                limit=most,
                tripped=proved > most,
            )
        )
    for name, seconds, slower in (
        ("p50_seconds", limits.p50_seconds, 0.5),
        ("p95_seconds", limits.p95_seconds, 0.05),
    ):
        if seconds is not None:
            guards.append(_slow(name, arms.treatment, seconds, slower, alpha))
    return guards


def _slow(name: str, arm: Arm, seconds: float, allowed: float, alpha: float) -> Guard:
    """A quantile above a limit is a share of answers behind the limit that is too large. Who left
    after the limit would have got one of them; of who left before nothing is known."""
    waited = [time for time in arm.waited if time > seconds]
    tally = tally_of(float(taken > seconds) for taken in (*arm.seconds, *waited))
    proved = lower_bound(tally, alpha)
    return Guard(
        name=f"{name} {seconds:g} (share of slower answers)",
        value=tally.mean,
        proved=proved,
        limit=allowed,
        tripped=proved > allowed,
    )


def needed_units(arms: Arms, terms: Terms, shape: Shape) -> int | None:
    """As many as a treatment with the planned effect would need, from what is known of the
    control so far."""
    outcomes = arms.control.outcomes
    enough = len(outcomes) >= _ENOUGH
    if terms.outcome in ("latency", "judge"):
        differences = graded(terms.effect, variance(outcomes) if enough else 1 / 12, shape)
    else:
        rate = fmean(outcomes) if enough else 0.5
        differences = yes_or_no(rate, min(1.0, rate + terms.effect), shape)
    count = needed_blocks(
        differences, null=terms.null, alpha=_alpha_of_outcome(terms), power=terms.power
    )
    return None if count is None else round(count * shape.units)


def _shape(arms: Arms, share: float) -> Shape:
    """That of blocks as outcomes have come, since they are not known of each answer; as they are
    shared out until there are enough of both."""
    control, treatment = len(arms.control.outcomes), len(arms.treatment.outcomes)
    if not 0 < share < 1:
        return PAIRS
    if min(control, treatment) >= _ENOUGH:
        share = treatment / (control + treatment)
    return shape_of(share)
