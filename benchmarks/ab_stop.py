"""How often the A/B stop is wrong where one peeks after every block, and whether the sample size
that it promises is enough; beside it what peeking does to the usual test.

    python -m benchmarks.ab_stop [--repeats 10000] [--blocks 5000]
"""

import argparse
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from benchmarks.ab_worlds import WORLDS, Array, World, block_differences, blocks_by_number
from gateway.orchestrator.experiments.sample_size import needed_blocks, shape_of, yes_or_no
from gateway.orchestrator.experiments.statistics import BETS, STEPS

ALPHA = 0.05
BATCH = 500
Pair = tuple[float, float]


@dataclass(frozen=True)
class Rates:
    """The share of stops in favour of the treatment, against it, and of any."""

    for_treatment: float
    against: float
    any: float


def running_log_capital(values: Array, mean: float) -> Array:
    """The logarithm of the capital after each value of each row: what `statistics.log_e_above`
    says of its first ones. NaN is no value."""
    values = np.floor(values * STEPS + 1e-9) / STEPS
    logs = np.stack([np.nancumsum(np.log1p(bet * (values / mean - 1)), axis=1) for bet in BETS])
    highest = logs.max(axis=0)
    return np.asarray(highest + np.log(np.exp(logs - highest).mean(axis=0)))


def draw(random: np.random.Generator, *, rates: Pair, share: float, shape: Any) -> Array:
    """Differences of blocks of yes-or-no outcomes with these rates (control, treatment), of which
    the treatment gets a share."""
    treatment_first = random.random(shape) < share
    first = random.geometric(np.where(treatment_first, 1 - share, share))
    of_treatment, of_control = (
        np.where(begins, first, 1) for begins in (treatment_first, ~treatment_first)
    )
    means = (
        random.binomial(counts, rate) / counts
        for counts, rate in ((of_control, rates[0]), (of_treatment, rates[1]))
    )
    control, treatment = means
    return np.asarray(treatment - control)


def stops(differences: Array, *, null: float = 0.0, alpha: float = ALPHA) -> Rates:
    """How many rows of differences are stopped at any time, peeking after each."""
    values, middle, needed = (1 + differences) / 2, (1 + null) / 2, math.log(2 / alpha)
    above = running_log_capital(values, middle).max(axis=1) >= needed
    below = running_log_capital(1 - values, 1 - middle).max(axis=1) >= needed
    return Rates(above.mean(), below.mean(), (above | below).mean())


def simulated(*, rates: Pair, share: float, null: float, count: int, repeats: int) -> Rates:
    """So many blocks. In batches, since all paths at once would not fit in memory."""
    random = np.random.default_rng(20_261)
    sizes = [min(BATCH, repeats - done) for done in range(0, repeats, BATCH)]
    parts = [
        stops(draw(random, rates=rates, share=share, shape=(size, count)), null=null)
        for size in sizes
    ]

    def average(name: str) -> float:
        return float(np.average([getattr(part, name) for part in parts], weights=sizes))

    return Rates(average("for_treatment"), average("against"), average("any"))


def upper_limit(rate: float, repeats: int, confidence: float = 0.99) -> float:
    """Above the true rate with this confidence (Wilson's interval, its upper end)."""
    z = NormalDist().inv_cdf(confidence)
    middle = rate + z * z / (2 * repeats)
    spread = z * math.sqrt(rate * (1 - rate) / repeats + z * z / (4 * repeats * repeats))
    return (middle + spread) / (1 + z * z / repeats)


def peeked_z_test(differences: Array) -> float:
    """The share that the usual test at 5% stops, looked at after each block from the 30th on."""
    counts = np.arange(1, differences.shape[1] + 1)
    sums, squares = np.cumsum(differences, axis=1), np.cumsum(differences**2, axis=1)
    variance = squares / counts - (sums / counts) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.abs(sums / counts) / np.sqrt(variance / counts)
    return float((np.nan_to_num(z[:, 29:], posinf=0.0) > 1.96).any(axis=1).mean())


def drawn_in(world: World, *, share: float, count: int, repeats: int) -> tuple[Array, Array]:
    """So many experiments of so many outcomes."""
    return world(np.random.default_rng(20_262), share, (repeats, count))


def print_wrong_stops(blocks: int, repeats: int) -> None:
    print(f"No difference: stopped within {blocks} blocks, peeking after each (alpha 5%)")
    print("rate   share  GenPlat  upper limit  usual test")
    for rate in (0.02, 0.1, 0.5, 0.9, 0.98):
        for share in (0.5, 0.1, 0.01):
            found = simulated(
                rates=(rate, rate), share=share, null=0, count=blocks, repeats=repeats
            ).any
            some = draw(
                np.random.default_rng(7), rates=(rate, rate), share=share, shape=(500, blocks)
            )
            limit, usual = upper_limit(found, repeats), peeked_z_test(some)
            print(f"{rate:4.2f}  {share:6.0%}  {found:7.2%}  {limit:11.2%}  {usual:10.1%}")


def print_worlds(outcomes: int, repeats: int) -> None:
    print(f"\nNo difference, in odd worlds: stopped within {outcomes} outcomes")
    print(f"{'world':20}  share  GenPlat  upper limit  by number")
    for name, world in WORLDS.items():
        for share in (0.5, 0.1):
            stream = drawn_in(world, share=share, count=outcomes, repeats=repeats)
            ours = stops(block_differences(*stream)).any
            by_number = stops(blocks_by_number(*stream, share)).any
            limit = upper_limit(ours, repeats)
            print(f"{name:20} {share:6.0%}  {ours:7.2%}  {limit:11.2%}  {by_number:9.1%}")


def print_promises(repeats: int) -> None:
    print("\nDecided within the promised number of blocks (80% promised)")
    print("control treatment  null  share   blocks    units  decided  wrongly")
    for rates, null, share in (
        ((0.5, 0.55), 0.0, 0.5),
        ((0.9, 0.95), 0.0, 0.1),
        ((0.02, 0.05), 0.0, 0.5),
        ((0.95, 0.95), -0.05, 0.5),
        ((0.8, 0.8), -0.05, 0.1),
        ((0.8, 0.8), -0.05, 0.01),
        ((0.98, 0.98), -0.03, 0.1),
    ):
        shape = shape_of(share)
        needed = needed_blocks(yes_or_no(*rates, shape), null=null) or 0
        result = simulated(rates=rates, share=share, null=null, count=needed, repeats=repeats)
        print(
            f"{rates[0]:7.2f} {rates[1]:9.2f} {null:5.2f} {share:6.0%} {needed:8,} "
            f"{needed * shape.units:8,.0f}  {result.for_treatment:7.1%}  {result.against:7.2%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10_000)
    parser.add_argument("--blocks", type=int, default=5_000)
    options = parser.parse_args()
    print_wrong_stops(options.blocks, options.repeats)
    print_worlds(2_000, min(1_000, options.repeats))
    print_promises(min(2_000, options.repeats))


if __name__ == "__main__":
    main()
