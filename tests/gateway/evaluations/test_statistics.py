"""Intervals and tests, checked by simulation: they must be right as often as they say."""

import numpy as np
import pytest

from gateway.evaluations import statistics
from gateway.evaluations.metrics.kinds import Floats, quotient
from gateway.evaluations.statistics import holm, interval, mcnemar, randomization, wilson


def mean(sums: Floats) -> Floats:
    return quotient(sums[..., 0], sums[..., 1])


def counted(values: Floats) -> Floats:
    return np.stack([values, np.ones(len(values))], axis=1)


@pytest.mark.parametrize("kind", ["skewed", "shares", "ratio"])
def test_95_percent_intervals_hold_the_truth_95_times_in_100(kind: str) -> None:
    source, hits, trials = np.random.default_rng(7), 0, 400
    for trial in range(trials):
        if kind == "skewed":
            counts, truth = counted(source.beta(1, 4, 60)), 0.2
        elif kind == "shares":
            counts, truth = counted((source.random(60) < 0.85).astype(float)), 0.85
        else:
            # As BLEU is one: a quotient of sums, which no average of quotients is.
            below = source.exponential(5, 60) + 1
            counts, truth = np.stack([below * source.uniform(0, 1, 60), below], axis=1), 0.5
        value = float(mean(counts.sum(axis=0)))
        found = interval(
            counts, mean, value=value, seed=trial, binary=kind == "shares", resamples=600
        )
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / trials <= 0.985


@pytest.mark.parametrize("binary", [False, True])
def test_no_difference_is_found_one_time_in_20(binary: bool) -> None:
    source, alarms, trials = np.random.default_rng(11), 0, 400
    for trial in range(trials):
        ease = source.random(50)
        if binary:
            pair = [(source.random(50) < ease).astype(float) for _ in range(2)]
            alarms += mcnemar(*pair) <= 0.05
        else:
            pair = [ease + source.normal(0, 0.2, 50) for _ in range(2)]
            alarms += (
                randomization(counted(pair[0]), counted(pair[1]), mean, seed=trial, resamples=400)
                <= 0.05
            )
    assert alarms / trials <= 0.08
    assert binary or alarms / trials >= 0.02


def test_a_paired_test_sees_what_lies_in_the_pairs() -> None:
    source = np.random.default_rng(3)
    ease = source.random(60)
    first, second = counted(ease), counted(ease + 0.02 + source.normal(0, 0.01, 60))
    found = statistics.difference(
        first,
        second,
        mean,
        values=(float(first[:, 0].mean()), float(second[:, 0].mean())),
        seed=1,
    )
    assert found.p_value < 0.001
    assert 0.01 < found.interval.low < found.value < found.interval.high < 0.03
    # The same without its pairs would drown in how easy the examples are.
    assert interval(first, mean, value=float(first[:, 0].mean()), seed=1).high > second[:, 0].mean()


def test_the_same_seed_gives_the_same_interval() -> None:
    counts = counted(np.random.default_rng(5).random(30))
    value = float(counts[:, 0].mean())
    one, same, other = (interval(counts, mean, value=value, seed=seed) for seed in (1, 1, 2))
    assert one == same != other


def test_examples_that_all_agree_say_only_so_much() -> None:
    all_right = interval(counted(np.ones(20)), mean, value=1.0, seed=1, binary=True)
    assert all_right == wilson(1.0, 20)
    # Agresti and Coull's textbook value: 20 of 20.
    assert (round(all_right.low, 3), all_right.high) == (0.839, 1.0)
    assert interval(counted(np.full(20, 3.0)), mean, value=3.0, seed=1).low == 3.0


def test_mcnemar_by_hand() -> None:
    """Eight differ, one of them in favour of the first: 2 * (1 + 8) / 256."""
    first = np.array([1.0] + [0.0] * 7 + [1.0] * 5)
    second = np.array([0.0] + [1.0] * 7 + [1.0] * 5)
    assert mcnemar(first, second) == pytest.approx(18 / 256)
    assert mcnemar(first, first) == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, float("nan"), 0.9])[0] == 1.0


def test_nothing_measured_is_nothing_known() -> None:
    nothing = np.empty((0, 2))
    assert np.isnan(interval(nothing, mean, value=float("nan"), seed=1).low)
    found = statistics.difference(nothing, nothing, mean, values=(0.0, 0.0), seed=1)
    assert np.isnan(found.value) and found.examples == 0
