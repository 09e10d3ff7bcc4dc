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

from gateway.orchestrator.experiments.sample_size import needed_blocks, yes_or_no
from gateway.orchestrator.experiments.statistics import BETS, STEPS, Blocks, blocks_for

ALPHA = 0.05
BATCH = 500
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Rates:
    """The share of stops in favour of the treatment, against it, and of any."""

    for_treatment: float
    against: float
    any: float


def running_log_capital(values: Array, mean: float) -> Array:
    """The logarithm of the capital after each value of each row: what `statistics.log_e_above`
    says of its first ones."""
    values = np.floor(values * STEPS + 1e-9) / STEPS
    logs = np.stack([np.cumsum(np.log1p(bet * (values / mean - 1)), axis=1) for bet in BETS])
    highest = logs.max(axis=0)
    return np.asarray(highest + np.log(np.exp(logs - highest).mean(axis=0)))


def draw(
    random: np.random.Generator, *, rates: tuple[float, float], blocks: Blocks, shape: Any
) -> Array:
    """Differences of blocks of yes-or-no outcomes with these rates (control, treatment)."""
    control = random.binomial(blocks.control, rates[0], shape) / blocks.control
    return np.asarray(random.binomial(blocks.treatment, rates[1], shape) / blocks.treatment) - (
        control
    )


def stops(differences: Array, *, null: float = 0.0, alpha: float = ALPHA) -> Rates:
    """How many rows of differences are stopped at any time, peeking after each."""
    values, middle, needed = (1 + differences) / 2, (1 + null) / 2, math.log(2 / alpha)
    above = running_log_capital(values, middle).max(axis=1) >= needed
    below = running_log_capital(1 - values, 1 - middle).max(axis=1) >= needed
    return Rates(above.mean(), below.mean(), (above | below).mean())


def simulated(
    *, rates: tuple[float, float], blocks: Blocks, null: float, count: int, repeats: int
) -> Rates:
    """In batches, since all paths at once would not fit in memory."""
    random = np.random.default_rng(20_261)
    sizes = [min(BATCH, repeats - done) for done in range(0, repeats, BATCH)]
    parts = [
        stops(draw(random, rates=rates, blocks=blocks, shape=(size, count)), null=null)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10_000)
    parser.add_argument("--blocks", type=int, default=5_000)
    options = parser.parse_args()
    print(f"No difference: stopped within {options.blocks} blocks, peeking after each (alpha 5%)")
    print("rate   shares  GenPlat  upper limit  usual test")
    for rate in (0.02, 0.1, 0.5, 0.9, 0.98):
        for control, treatment in ((50, 50), (90, 10), (99, 1)):
            blocks = blocks_for(control, treatment)
            found = simulated(
                rates=(rate, rate), blocks=blocks, null=0, count=options.blocks,
                repeats=options.repeats,
            ).any  # fmt: skip
            naive = peeked_z_test(
                draw(
                    np.random.default_rng(7),
                    rates=(rate, rate),
                    blocks=blocks,
                    shape=(500, options.blocks),
                )
            )
            limit = upper_limit(found, options.repeats)
            print(
                f"{rate:4.2f}   {control}/{treatment:<4} {found:7.2%}  {limit:11.2%}  {naive:10.1%}"
            )
    print("\nDecided within the promised number of blocks (80% promised)")
    print("control treatment  null  shares  blocks  decided  wrongly")
    for rates, null, shares in (
        ((0.5, 0.55), 0.0, (50, 50)),
        ((0.9, 0.95), 0.0, (90, 10)),
        ((0.02, 0.05), 0.0, (50, 50)),
        ((0.95, 0.95), -0.05, (50, 50)),
        ((0.8, 0.8), -0.05, (90, 10)),
        ((0.8, 0.8), -0.05, (99, 1)),
        ((0.98, 0.98), -0.03, (90, 10)),
    ):
        blocks = blocks_for(*shares)
        needed = needed_blocks(yes_or_no(*rates, blocks), null=null) or 0
        result = simulated(
            rates=rates, blocks=blocks, null=null, count=needed, repeats=min(2000, options.repeats)
        )
        print(
            f"{rates[0]:7.2f} {rates[1]:9.2f} {null:5.2f}  {shares[0]}/{shares[1]:<4} {needed:7}"
            f"  {result.for_treatment:7.1%}  {result.against:7.2%}"
        )


if __name__ == "__main__":
    main()
