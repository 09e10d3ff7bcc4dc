"""The always-valid statistics, against simulation: wrong stops, coverage, power."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ab_stop import draw, running_log_capital, simulated, stops, upper_limit
from gateway.orchestrator.experiments.sample_size import (
    days_left,
    needed_blocks,
    spread_around,
    yes_or_no,
)
from gateway.orchestrator.experiments.statistics import (
    Blocks,
    block_differences,
    blocks_for,
    compare,
    log_e_above,
    log_e_below,
    lower_bound,
    tally_of,
    upper_bound,
)

REPEATS = 1000
shares = st.floats(0, 1, allow_nan=False)


@given(st.lists(shares, min_size=1, max_size=40), st.floats(0.05, 0.95))
def test_the_simulation_bets_as_the_gateway_does(values: list[float], mean: float) -> None:
    simulated_log = running_log_capital(np.array([values]), mean)[0]
    for seen in (1, len(values)):
        said = log_e_above(tally_of(values[:seen]), mean)
        assert said == pytest.approx(simulated_log[seen - 1], abs=1e-9)


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("blocks", [blocks_for(50, 50), blocks_for(90, 10)])
def test_peeking_after_every_block_stops_wrongly_in_five_of_a_hundred_at_most(
    rate: float, blocks: Blocks
) -> None:
    wrong = simulated(rates=(rate, rate), blocks=blocks, null=0, count=800, repeats=REPEATS)
    assert upper_limit(wrong.any, REPEATS) <= 0.05


def test_the_usual_boundary_would_not_pass_that_test() -> None:
    # (Were the threshold that of a single look, the simulation would notice.)
    random = np.random.default_rng(1)
    paths = draw(random, rates=(0.5, 0.5), blocks=Blocks(1, 1), shape=(REPEATS, 800))
    assert stops(paths, alpha=0.6).any > 0.05


@pytest.mark.parametrize(
    ("rates", "blocks"),
    [
        ((0.5, 0.6), Blocks(1, 1)),
        ((0.02, 0.05), Blocks(1, 1)),
        ((0.9, 0.8), Blocks(9, 1)),
        ((0.5, 0.5), Blocks(1, 9)),
    ],
)
def test_the_interval_holds_the_difference_at_all_times(
    rates: tuple[float, float], blocks: Blocks
) -> None:
    truth = rates[1] - rates[0]
    missed = simulated(rates=rates, blocks=blocks, null=truth, count=500, repeats=REPEATS)
    assert upper_limit(missed.any, REPEATS) <= 0.05


def test_graded_outcomes_are_covered_too() -> None:
    random = np.random.default_rng(3)
    control, treatment = (random.beta(2, 5, (REPEATS, 500)) for _ in range(2))
    assert upper_limit(stops(treatment - control).any, REPEATS) <= 0.05


@pytest.mark.parametrize(
    ("rates", "null", "blocks"),
    [
        ((0.5, 0.6), 0.0, Blocks(1, 1)),
        ((0.9, 0.95), 0.0, Blocks(9, 1)),
        ((0.97, 0.97), -0.05, Blocks(1, 1)),
        ((0.8, 0.8), -0.1, Blocks(99, 1)),
        ((0.02, 0.02), -0.05, Blocks(1, 1)),
    ],
)
def test_the_promised_size_decides_as_often_as_promised(
    rates: tuple[float, float], null: float, blocks: Blocks
) -> None:
    promised = needed_blocks(yes_or_no(*rates, blocks), null=null)
    assert promised is not None
    found = simulated(rates=rates, blocks=blocks, null=null, count=promised, repeats=400)
    assert found.for_treatment >= 0.8 and found.against <= 0.01
    # It promises no luxury: with a third of that many it would not.
    fewer = simulated(rates=rates, blocks=blocks, null=null, count=promised // 3, repeats=400)
    assert fewer.for_treatment < 0.7


def test_a_finely_graded_outcome_needs_what_its_spread_asks_for() -> None:
    promised = needed_blocks(spread_around(0.05, 0.02))
    assert promised is not None
    random = np.random.default_rng(5)
    paths = np.clip(random.normal(0.05, math.sqrt(0.02), (400, promised)), -1, 1)
    assert stops(paths).for_treatment >= 0.8


def test_sizes_grow_as_what_is_looked_for_shrinks() -> None:
    even = Blocks(1, 1)
    sizes = [needed_blocks(yes_or_no(0.5, 0.5 + effect, even)) for effect in (0.2, 0.1, 0.05)]
    assert None not in sizes and sizes == sorted(sizes)
    assert needed_blocks(yes_or_no(0.5, 0.5, even)) is None
    assert needed_blocks(yes_or_no(0.5, 0.4, even)) is None


@given(st.lists(shares, max_size=60), st.floats(0.01, 0.2))
def test_bounds_lie_around_the_mean_and_are_what_the_capital_refutes(
    values: list[float], alpha: float
) -> None:
    tally = tally_of(values)
    low, high = lower_bound(tally, alpha), upper_bound(tally, alpha)
    assert 0 <= low <= high <= 1
    if tally.mean is not None:
        assert low <= tally.mean + 1e-9 and high >= tally.mean - 1e-9
    if low > 1e-6:
        assert log_e_above(tally, low) == pytest.approx(math.log(1 / alpha), abs=1e-3)
    if high < 1 - 1e-6:
        assert log_e_below(tally, high) == pytest.approx(math.log(1 / alpha), abs=1e-3)


@given(
    st.lists(shares, max_size=50), st.lists(shares, max_size=50), st.integers(1, 5),
    st.integers(1, 5),
)  # fmt: skip
def test_blocks_use_each_outcome_once_and_later_looks_only_add(
    control: list[float], treatment: list[float], many: int, few: int
) -> None:
    blocks = Blocks(many, few)
    all_of_them = block_differences(control, treatment, blocks)
    assert len(all_of_them) == min(len(control) // many, len(treatment) // few)
    earlier = block_differences(control[: len(control) // 2], treatment, blocks)
    assert all_of_them[: len(earlier)] == earlier
    assert all(-1 <= difference <= 1 for difference in all_of_them)


def test_a_comparison_says_where_it_stands() -> None:
    nothing = compare([], alpha=0.05)
    assert (nothing.blocks, nothing.difference, nothing.p_value) == (0, None, 1.0)
    assert (nothing.low, nothing.high) == pytest.approx((-1, 1))
    better = compare([0.0, 1.0, 1.0, 0.0] * 30, alpha=0.05)
    assert better.difference == pytest.approx(0.5) and 0 < better.low < 0.5 < better.high
    assert better.p_value < 0.05
    # The p-value says the same as the interval does.
    for null in (better.low - 0.01, better.low + 0.01):
        assert (compare([0.0, 1.0, 1.0, 0.0] * 30, alpha=0.05, null=null).p_value < 0.05) == (
            null < better.low
        )


@pytest.mark.parametrize(
    ("shares", "expected"),
    [((50, 50), (1, 1)), ((90, 10), (9, 1)), ((1, 99), (1, 99)), ((99.9, 0.1), (100, 1))],
)
def test_blocks_follow_the_shares(shares: tuple[float, float], expected: tuple[int, int]) -> None:
    assert blocks_for(*shares) == Blocks(*expected)


def test_days_left_follow_the_pace() -> None:
    assert days_left(needed_units=100, seen_units=25, seen_days=0.5) == 1.5
    assert days_left(needed_units=100, seen_units=200, seen_days=1) == 0
    assert days_left(needed_units=100, seen_units=0, seen_days=1) is None
