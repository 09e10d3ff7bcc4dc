"""How many units an experiment needs before it can be expected to decide. Pure.

From a distribution of a block's difference follows how each bet's capital grows, on average and
how unsteadily. Needed are as many blocks as let the mixture's capital on the average path, less as
much as bad luck takes, reach what decides. benchmarks/ab_stop.py checks the figures by simulation.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

from gateway.orchestrator.experiments.statistics import BETS, Blocks

# A value, and how probable it is.
Distribution = Sequence[tuple[float, float]]
MOST_BLOCKS = 10_000_000
_NORMAL = NormalDist()


def needed_blocks(
    differences: Distribution, *, null: float = 0.0, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """Blocks after which the test has decided for "the difference is above ``null``" with a
    probability of ``power``, where differences are distributed so; None where no feasible number
    is enough. ``alpha`` is that of both sides together."""
    growths = [_growth(differences, null, share) for share in BETS]
    bad_luck = _NORMAL.inv_cdf(power)
    needed = math.log(2 / alpha)

    def is_enough(blocks: int) -> bool:
        best, spread = max(growths)
        logs = [blocks * (mean - best) for mean, _ in growths]
        capital = blocks * best + math.log(sum(map(math.exp, logs)) / len(logs))
        return capital - bad_luck * spread * math.sqrt(blocks) >= needed

    if not is_enough(MOST_BLOCKS):
        return None
    low, high = 0, MOST_BLOCKS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _growth(differences: Distribution, null: float, share: float) -> tuple[float, float]:
    """What a block adds to the logarithm of a bet's capital: its mean and standard deviation."""
    logs = [
        (math.log1p(share * ((1 + difference) / (1 + null) - 1)), probability)
        for difference, probability in differences
    ]
    mean = math.fsum(log * probability for log, probability in logs)
    return mean, math.sqrt(math.fsum((log - mean) ** 2 * part for log, part in logs))


def yes_or_no(control: float, treatment: float, blocks: Blocks) -> Distribution:
    """A block's difference where each unit's outcome is 1 with these probabilities."""
    return [
        (yes_t / blocks.treatment - yes_c / blocks.control, part_t * part_c)
        for yes_t, part_t in _binomial(treatment, blocks.treatment)
        for yes_c, part_c in _binomial(control, blocks.control)
    ]


def _binomial(probability: float, count: int) -> list[tuple[int, float]]:
    return [
        (yes, math.comb(count, yes) * probability**yes * (1 - probability) ** (count - yes))
        for yes in range(count + 1)
    ]


def spread_around(difference: float, variance: float) -> Distribution:
    """Two values with this mean and variance: enough where outcomes are finely graded."""
    deviation = min(math.sqrt(variance), 1 - abs(difference))
    return [(difference - deviation, 0.5), (difference + deviation, 0.5)]


def days_left(*, needed_units: int, seen_units: int, seen_days: float) -> float | None:
    """Days until ``needed_units`` are there, at the pace so far; None while nothing is known."""
    if seen_units == 0 or seen_days <= 0:
        return None
    return max(0, needed_units - seen_units) * seen_days / seen_units
