"""Intervals and tests, checked by simulation: they must be right as often as they say."""

import numpy as np
import pytest

from gateway.evaluations.metrics.kinds import Floats, quotient
from gateway.evaluations.statistics import (
    difference,
    holm,
    interval,
    mcnemar,
    randomization,
    wilson,
)


def mean(sums: Floats) -> Floats:
    return quotient(sums[..., 0], sums[..., 1])


def counted(values: Floats) -> Floats:
    return np.stack([values, np.ones(len(values))], axis=1)


SCIPY = (0.1225, 0.455)
BOUNDS = {"skewed": (0.0, 1.0), "shares": (0.0, 1.0), "ratio": None}


@pytest.mark.parametrize("kind", list(BOUNDS))
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
        found = interval(counts, mean, value=value, seed=trial, bounds=BOUNDS[kind], resamples=600)
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
    found = difference(
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


def test_an_interval_is_the_one_that_scipy_computes() -> None:
    values = np.array([0.02, 0.0, 0.31, 0.05, 0.64, 0.11, 0.0, 0.08, 0.93, 0.21, 0.17, 0.4])
    found = interval(counted(values), mean, value=float(values.mean()), seed=1, resamples=20_000)
    # scipy 1.17.1: bootstrap((values,), np.mean, method="BCa", n_resamples=1_000_000, rng=1)
    assert (found.low, found.high) == pytest.approx(SCIPY, abs=0.006)
    assert found.method == "BCa"


def test_examples_that_all_agree_say_only_so_much() -> None:
    all_right = interval(counted(np.ones(20)), mean, value=1.0, seed=1, bounds=(0, 1))
    assert (all_right.low, all_right.high) == pytest.approx((wilson(1.0, 20).low, 1.0))
    # Agresti and Coull's textbook value: 20 of 20.
    assert round(all_right.low, 3) == 0.839
    # What has no bounds may be anything elsewhere: nothing is known but what was seen.
    assert interval(counted(np.full(20, 3.0)), mean, value=3.0, seed=1).low == 3.0


@pytest.mark.parametrize(("bounds", "examples"), [(None, 1), ((0.0, 1.0), 1), ((0.0, 1.0), 5)])
def test_few_examples_that_agree_prove_no_margin(
    bounds: tuple[float, float] | None, examples: int
) -> None:
    """All right against all wrong, and yet who knows the next one."""
    wrong, right = counted(np.zeros(examples)), counted(np.ones(examples))
    alone = interval(right, mean, value=1.0, seed=1, bounds=bounds)
    apart = difference(wrong, right, mean, values=(0.0, 1.0), seed=1, bounds=bounds)
    assert apart.value == 1
    if bounds is None:
        assert np.isnan([alone.low, alone.high, apart.interval.low, apart.interval.high]).all()
    else:
        assert alone.low < 0.6 and alone.high == 1
        assert apart.interval.low < 0.4 and apart.interval.high == 1


def test_a_share_of_all_against_none_by_hand() -> None:
    """Newcombe's interval of 10 of 10 against 0 of 10: Wilson's are 0.722 to 1 and 0 to 0.278."""
    pair = (counted(np.zeros(10)), counted(np.ones(10)))
    found = difference(*pair, mean, values=(0.0, 1.0), seed=1, binary=True, bounds=(0, 1))
    assert found.interval.low == pytest.approx(1 - 0.2775 * 2**0.5, abs=1e-3)
    assert (found.interval.high, found.interval.method) == (1, "Newcombe")


def test_models_that_never_differed_may_do_so_elsewhere() -> None:
    same = counted(np.random.default_rng(2).random(30))
    value = float(same[:, 0].mean())
    found = difference(same, same, mean, values=(value, value), seed=1, bounds=(0, 1))
    assert -wilson(0, 30).high < found.interval.low < -0.05
    assert wilson(0, 30).high > found.interval.high > 0.05
    assert (found.value, found.p_value) == (0, 1)


@pytest.mark.parametrize("rates", [(0.9, 0.9), (0.98, 0.95), (0.999, 0.96)])
def test_differences_of_shares_hold_the_truth_also_near_their_end(
    rates: tuple[float, float],
) -> None:
    """Where a resample of what always went right would always go right."""
    source, hits, trials, examples = np.random.default_rng(13), 0, 400, 40
    for trial in range(trials):
        first, second = ((source.random(examples) < rate).astype(float) for rate in rates)
        found = difference(
            counted(first),
            counted(second),
            mean,
            values=(float(first.mean()), float(second.mean())),
            seed=trial % 3,
            binary=True,
            bounds=(0, 1),
            resamples=400,
        ).interval
        hits += found.low <= rates[1] - rates[0] <= found.high
    # (Of what was drawn alone they would hold it 76 and 81 times in 100.)
    assert hits / trials >= 0.88


def test_a_value_that_sums_only_come_close_to_moves_its_interval() -> None:
    """As GLEU's, which is a mean over references that are drawn."""
    counts = counted(np.random.default_rng(4).beta(1, 4, 40))
    plain = float(counts[:, 0].mean())
    own = interval(counts, mean, value=plain, seed=1)
    moved = interval(counts, mean, value=plain + 0.01, seed=1)
    assert (moved.low, moved.high) == pytest.approx((own.low + 0.01, own.high + 0.01))
    pair = (counts, counted(np.random.default_rng(5).beta(1, 4, 40)))
    values = (plain, float(pair[1][:, 0].mean()))
    apart = difference(*pair, mean, values=values, seed=1)
    raised = difference(*pair, mean, values=(plain, values[1] + 0.01), seed=1)
    assert raised.interval.low == pytest.approx(apart.interval.low + 0.01)


def test_mcnemar_by_hand() -> None:
    """Eight differ, one of them in favour of the first: 2 * (1 + 8) / 256."""
    first = np.array([1.0] + [0.0] * 7 + [1.0] * 5)
    second = np.array([0.0] + [1.0] * 7 + [1.0] * 5)
    assert mcnemar(first, second) == pytest.approx(18 / 256)
    assert mcnemar(first, first) == 1.0
    # Nobody waits for that one: half of ten thousand.
    many = np.tile([0.0, 1.0], 5000)
    assert mcnemar(many, 1 - many) == 1.0
    assert mcnemar(np.zeros(2000), np.ones(2000)) == 2.0**-1999


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, float("nan"), 0.9])[0] == 1.0


def test_nothing_measured_is_nothing_known() -> None:
    nothing = np.empty((0, 2))
    assert np.isnan(interval(nothing, mean, value=float("nan"), seed=1).low)
    found = difference(nothing, nothing, mean, values=(0.0, 0.0), seed=1)
    assert np.isnan(found.value) and found.examples == 0
