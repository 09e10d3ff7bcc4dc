"""What follows from the figures."""

from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orchestrator.experiments.arms import Arm, Arms
from gateway.orchestrator.experiments.decisions import Standing, decide, stand
from gateway.orchestrator.experiments.shares import shared_out
from gateway.orchestrator.experiments.spec import ExperimentSpec, Terms
from shared.errors import InvalidData
from shared.route_labels import label_of

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


def arms(control: list[float], treatment: list[float], **treatments: Any) -> Arms:
    """Outcomes of both in turns; each request took a second, and none failed."""
    found = Arms(Arm("old"), Arm("new"))
    for old, new in zip_longest(control, treatment):
        for arm, outcome in ((found.control, old), (found.treatment, new)):
            if outcome is not None:
                found.add_outcome(arm, outcome)
    for arm, outcomes in ((found.control, control), (found.treatment, treatment)):
        arm.seconds = [1.0] * len(outcomes)
    for name, value in treatments.items():
        setattr(found.treatment, name, value)
    errors = zip_longest([0.0] * len(control), found.treatment.errors or [0.0] * len(treatment))
    found.control.errors, found.treatment.errors = [], []
    for old, new in errors:
        for arm, failed in ((found.control, old), (found.treatment, new)):
            if failed is not None:
                arm.errors.append(failed)
                found.by_error.add(failed, to_treatment=arm is found.treatment)
    return found


def judged(found: Arms, *, days: float = 1, **terms: Any) -> tuple[str, str, Standing]:
    asked = Terms.model_validate(terms)
    standing = stand(
        arms=found,
        terms=asked,
        share=0.5,
        at=BEGAN + timedelta(days=days),
        began=BEGAN,
    )
    decision = decide(standing=standing, terms=asked, began=BEGAN)
    return decision.status, decision.why, standing


def test_a_better_treatment_succeeds_and_a_worse_one_fails() -> None:
    half, all_good = [0.0, 1.0] * 100, [1.0] * 200
    status, why, standing = judged(arms(half, all_good))
    assert status == "succeeded" and standing.low > 0
    assert "new against old: +0.5 in thumbs" in why and "400 units" in why
    status, why, standing = judged(arms(all_good, half))
    assert status == "failed" and "is worse" in why and standing.high < 0
    assert judged(arms(half, half))[0] == "running"
    assert judged(arms([], []))[0] == "running"


def test_not_worse_is_enough_where_that_is_asked_for() -> None:
    same = [0.0, 1.0, 1.0] * 100
    asked = {"goal": "non_inferiority", "margin": 0.3}
    status, why, standing = judged(arms(same, same), **asked)
    assert status == "succeeded" and "not worse by 0.3" in why and standing.null == -0.3
    assert judged(arms([1.0] * 300, same), **asked | {"margin": 0.1})[0] == "failed"


def test_time_runs_out() -> None:
    status, why, _ = judged(arms([1.0, 0.0], [0.0, 1.0]), days=28)
    assert status == "failed" and "The time is over (28 days)" in why


def test_guardrails_come_before_a_good_outcome() -> None:
    good = arms([0.0] * 200, [1.0] * 200, errors=[0.0, 1.0, 1.0] * 66)
    status, why, standing = judged(good)
    assert status == "rolled_back" and "max_error_increase" in why
    assert standing.treatment.errors == 132
    slow = arms([0.0] * 200, [1.0] * 200, seconds=[1.0, 1.0, 9.0] * 66)
    for limits, expected in (
        ({"p95_seconds": 5}, "rolled_back"),
        ({"p50_seconds": 5}, "succeeded"),
        ({"p50_seconds": 0.5}, "rolled_back"),
        ({"p95_seconds": 10}, "succeeded"),
    ):
        assert judged(slow, guardrails=limits)[0] == expected, limits


def test_latency_is_told_in_seconds_gained() -> None:
    fast, slow = [0.95, 0.96] * 150, [0.9, 0.91] * 150
    status, _, standing = judged(arms(slow, fast), outcome="latency", min_effect=1)
    assert status == "succeeded"
    assert standing.difference == pytest.approx(1.5) and 0 < standing.low < 1.5 < standing.high
    assert standing.control.rate == pytest.approx(2.85)
    assert standing.treatment.rate == pytest.approx(1.35)


def test_what_a_look_has_excluded_stays_excluded() -> None:
    def look(found: Arms, before: Standing | None = None) -> Standing:
        terms = Terms.model_validate({})
        at = BEGAN + timedelta(days=2)
        return stand(arms=found, terms=terms, share=0.5, at=at, began=BEGAN, before=before)

    good, bad = [1.0] * 30, [0.0, 1.0] * 15
    first = look(arms(bad, good))
    later = look(arms(bad + good, good + bad), first)
    assert later.low >= first.low and later.high <= first.high
    assert later.p_value <= first.p_value


def test_the_pace_tells_how_many_days_are_left() -> None:
    *_, standing = judged(arms([0.0, 1.0] * 50, [1.0, 0.0] * 50), days=2, min_effect=0.1)
    assert standing.units == 200 and standing.needed_units is not None
    assert standing.days_left == pytest.approx((standing.needed_units - 200) / 100)
    assert judged(arms([], []))[2].days_left is None


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"goal": "non_inferiority"}, "margin: say by how much"),
        ({"margin": 0.1}, "margin: is for the goal"),
        ({"goal": "non_inferiority", "margin": 1}, "margin: must be below 1"),
        ({"outcome": "latency", "min_effect": 30}, "min_effect: must be below 30"),
        ({"treatment": "old"}, "must be another target"),
        ({"share": 0}, "greater than 0"),
        ({"share": float("nan")}, "finite"),
        ({"outcome": "likes"}, "thumbs"),
        ({"more": 1}, "Extra"),
    ],
)
def test_specs_that_cannot_be_meant_are_refused(spec: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ExperimentSpec.model_validate({"control": "old", "treatment": "new"} | spec)


OLD, NEW = {"deployment": "old"}, {"deployment": "new"}


def test_shares_are_taken_from_what_both_had() -> None:
    targets = [OLD | {"weight": 60.0}, {"upstream": "x", "weight": 20.0}]
    found = shared_out(targets, [NEW], control="old", treatment="new", share=0.1)
    assert found.targets == [
        OLD | {"weight": 54.0}, {"upstream": "x", "weight": 20.0}, NEW | {"weight": 6.0},
    ]  # fmt: skip
    assert found.fallbacks == [NEW]
    whole = shared_out(found.targets, found.fallbacks, control="old", treatment="new", share=1)
    assert whole.targets == [{"upstream": "x", "weight": 20.0}, NEW | {"weight": 60.0}]
    assert whole.fallbacks == [OLD, NEW]
    patient = shared_out(
        [OLD | {"weight": 1, "timeout_seconds": 9}],
        [NEW | {"timeout_seconds": 3}],
        control="old",
        treatment="new",
        share=1,
    )
    assert patient.targets == [NEW | {"weight": 1, "timeout_seconds": 3}]
    assert patient.fallbacks == [OLD | {"timeout_seconds": 9}, NEW | {"timeout_seconds": 3}]
    with pytest.raises(InvalidData, match="control"):
        shared_out(whole.targets, [], control="nobody", treatment="other", share=0.5)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=5), st.floats(0.001, 0.999),
    st.booleans(),
)  # fmt: skip
def test_no_requests_are_won_or_lost(weights: list[float], share: float, listed: bool) -> None:
    labels = ["old", "a", "b", "c", "d"]
    targets = [
        {"deployment": label, "weight": weight + (label == "old")}
        for label, weight in zip(labels, weights, strict=False)
    ] + ([NEW | {"weight": 3.0}] if listed else [])
    found = shared_out(targets, [], control="old", treatment="new", share=share)
    before, after = (
        {label_of(place): float(place["weight"]) for place in places}
        for places in (targets, found.targets)
    )
    assert sum(after.values()) == pytest.approx(sum(before.values()), rel=1e-5)
    assert label_of(found.targets[-1]) == "new"
    assert {label: after[label] for label in set(before) - {"old", "new"}} == {
        label: before[label] for label in set(before) - {"old", "new"}
    }
