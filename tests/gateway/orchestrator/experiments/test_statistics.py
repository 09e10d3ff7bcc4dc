"""The always-valid statistics, against simulation: wrong stops, coverage, power."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ab_stop import (
    draw,
    drawn_in,
    running_log_capital,
    simulated,
    stops,
    upper_limit,
)
from benchmarks.ab_worlds import WORLDS, block_differences, blocks_by_number
from gateway.orchestrator.experiments.sample_size import (
    PAIRS,
    days_left,
    graded,
    needed_blocks,
    shape_of,
    yes_or_no,
)
from gateway.orchestrator.experiments.statistics import (
    Blocks,
    compare,
    log_e_above,
    log_e_below,
    lower_bound,
    lowest_difference,
    tally_of,
    upper_bound,
)

REPEATS = 1000
shares = st.floats(0, 1, allow_nan=False)
outcomes = st.lists(st.tuples(st.booleans(), shares), max_size=60)


def blocks_of(said: list[tuple[bool, float]]) -> Blocks:
    blocks = Blocks()
    for to_treatment, value in said:
        blocks.add(value, to_treatment=to_treatment)
    return blocks


@given(st.lists(shares, min_size=1, max_size=40), st.floats(0.05, 0.95))
def test_the_simulation_bets_as_the_gateway_does(values: list[float], mean: float) -> None:
    simulated_log = running_log_capital(np.array([values]), mean)[0]
    for seen in (1, len(values)):
        said = log_e_above(tally_of(values[:seen]), mean)
        assert said == pytest.approx(simulated_log[seen - 1], abs=1e-9)


@given(outcomes.filter(bool))
def test_the_simulation_makes_the_gateways_blocks(said: list[tuple[bool, float]]) -> None:
    to_treatment, values = (np.array([column]) for column in zip(*said, strict=True))
    found = block_differences(to_treatment, values)[0]
    assert found[~np.isnan(found)] == pytest.approx(blocks_of(said).differences)


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_peeking_after_every_block_stops_wrongly_in_five_of_a_hundred_at_most(
    rate: float, share: float
) -> None:
    wrong = simulated(rates=(rate, rate), share=share, null=0, count=800, repeats=REPEATS)
    assert upper_limit(wrong.any, REPEATS) <= 0.05


def test_the_usual_boundary_would_not_pass_that_test() -> None:
    # (Were the threshold that of a single look, the simulation would notice.)
    random = np.random.default_rng(1)
    paths = draw(random, rates=(0.5, 0.5), share=0.5, shape=(REPEATS, 800))
    assert stops(paths, alpha=0.6).any > 0.05


@pytest.mark.parametrize(
    ("name", "share"),
    [*((name, 0.5) for name in WORLDS), ("ramp", 0.1), ("weights_move", 0.1), ("visits", 0.1)],
)
def test_odd_worlds_do_not_fool_it(name: str, share: float) -> None:
    ours = stops(block_differences(*drawn_in(WORLDS[name], share=share, count=800, repeats=300)))
    assert upper_limit(ours.any, 300) <= 0.05


@pytest.mark.parametrize("name", ["days", "quiet_arm", "weights_move"])
def test_these_worlds_would_fool_a_test_that_waits_for_partners(name: str) -> None:
    stream = drawn_in(WORLDS[name], share=0.5, count=800, repeats=100)
    assert stops(blocks_by_number(*stream, 0.5)).any > 0.1


@pytest.mark.parametrize(
    ("rates", "share"),
    [((0.5, 0.6), 0.5), ((0.02, 0.05), 0.5), ((0.9, 0.8), 0.1), ((0.5, 0.5), 0.9)],
)
def test_the_interval_holds_the_difference_at_all_times(
    rates: tuple[float, float], share: float
) -> None:
    truth = rates[1] - rates[0]
    missed = simulated(rates=rates, share=share, null=truth, count=500, repeats=REPEATS)
    assert upper_limit(missed.any, REPEATS) <= 0.05


@pytest.mark.parametrize(
    ("rates", "null", "share"),
    [
        ((0.5, 0.6), 0.0, 0.5),
        ((0.9, 0.95), 0.0, 0.1),
        ((0.97, 0.97), -0.05, 0.5),
        ((0.8, 0.8), -0.1, 0.01),
        ((0.02, 0.02), -0.05, 0.5),
    ],
)
def test_the_promised_size_decides_as_often_as_promised(
    rates: tuple[float, float], null: float, share: float
) -> None:
    promised = needed_blocks(yes_or_no(*rates, shape_of(share)), null=null)
    assert promised is not None
    found = simulated(rates=rates, share=share, null=null, count=promised, repeats=400)
    assert found.for_treatment >= 0.8 and found.against <= 0.01
    # It promises no luxury: with a third of that many it would not.
    fewer = simulated(rates=rates, share=share, null=null, count=promised // 3, repeats=400)
    assert fewer.for_treatment < 0.7


def test_a_finely_graded_outcome_needs_what_its_spread_asks_for() -> None:
    promised = needed_blocks(graded(0.05, 0.01, PAIRS))
    assert promised is not None
    random = np.random.default_rng(5)
    paths = np.clip(random.normal(0.05, math.sqrt(0.02), (400, promised)), -1, 1)
    assert stops(paths).for_treatment >= 0.8


def test_a_tiny_share_is_planned_for_as_quickly() -> None:
    began = time.perf_counter()
    for share in (1e-9, 1 - 1e-9):
        shape = shape_of(share)
        assert len(shape.cases) < 300 and shape.units == pytest.approx(1e9, rel=1e-3)
        assert needed_blocks(yes_or_no(0.5, 0.6, shape)) is not None
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.97])
def test_blocks_turn_out_as_outcomes_are_shared(share: float) -> None:
    shape = shape_of(share)
    assert math.fsum(part for *_, part in shape.cases) == pytest.approx(1, abs=1e-4)
    units = math.fsum((one + other) * part for one, other, part in shape.cases)
    assert units == pytest.approx(shape.units, rel=0.02)
    mean = math.fsum(value * part for value, part in yes_or_no(0.3, 0.4, shape))
    assert mean == pytest.approx(0.1, abs=1e-4)
    blocks = Blocks()
    for drawn in np.random.default_rng(2).random(round(600 * shape.units)) < share:
        blocks.add(0, to_treatment=bool(drawn))
    assert blocks.units / len(blocks.differences) == pytest.approx(shape.units, rel=0.15)


def test_sizes_grow_as_what_is_looked_for_shrinks() -> None:
    even = shape_of(0.5)
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


@given(outcomes, st.integers(0, 60))
def test_blocks_use_each_outcome_once_and_later_looks_only_add(
    said: list[tuple[bool, float]], seen: int
) -> None:
    whole, earlier = blocks_of(said), blocks_of(said[:seen])
    assert whole.differences[: len(earlier.differences)] == earlier.differences
    assert all(-1 <= difference <= 1 for difference in whole.differences)
    waiting = said[whole.units :]
    assert whole.units <= len(said) and len({arm for arm, _ in waiting}) <= 1


def test_a_block_ends_when_both_have_given_something() -> None:
    found = blocks_of([(False, 1), (False, 0), (True, 1), (True, 0), (False, 1), (False, 0)])
    assert (found.differences, found.units) == ([0.5, -1.0], 5)


def test_a_comparison_says_where_it_stands() -> None:
    nothing = compare([], alpha=0.05)
    assert (nothing.blocks, nothing.difference, nothing.p_value) == (0, None, 1.0)
    assert (nothing.low, nothing.high) == pytest.approx((-1, 1))
    better = compare([0.0, 1.0, 1.0, 0.0] * 30, alpha=0.05)
    assert lowest_difference([0.0, 1.0, 1.0, 0.0] * 30, 0.025) == better.low
    assert better.difference == pytest.approx(0.5) and 0 < better.low < 0.5 < better.high
    assert better.p_value < 0.05
    # The p-value says the same as the interval does.
    for null in (better.low - 0.01, better.low + 0.01):
        assert (compare([0.0, 1.0, 1.0, 0.0] * 30, alpha=0.05, null=null).p_value < 0.05) == (
            null < better.low
        )


def test_days_left_follow_the_pace() -> None:
    assert days_left(needed_units=100, seen_units=25, seen_days=0.5) == 1.5
    assert days_left(needed_units=100, seen_units=200, seen_days=1) == 0
    assert days_left(needed_units=100, seen_units=0, seen_days=1) is None
