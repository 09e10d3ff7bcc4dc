"""How many units an experiment needs before it can be expected to decide. Pure.

From a distribution of a block's difference follows how each bet's capital grows, on average and
how unsteadily. Needed are as many blocks as let the mixture's capital on the average path, less as
much as bad luck takes, reach what decides. benchmarks/ab_stop.py checks the figures by simulation.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from gateway.orchestrator.experiments.statistics import BETS

# A value, and how probable it is.
Distribution = Sequence[tuple[float, float]]
MOST_BLOCKS = 10_000_000
# Up to so many outcomes of an arm in a block each number is a case of its own.
_EXACT = 24
# Cases rarer than that are left out.
_RARE = 1e-6
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Shape:
    """How blocks turn out: ``cases`` of how many outcomes of control and treatment are in one, each
    with its probability; ``units`` of both on average."""

    cases: tuple[tuple[int, int, float], ...]
    units: float


# A reader's answer and its shadow.
PAIRS = Shape(((1, 1, 1.0),), 2.0)


def shape_of(share: float) -> Shape:
    """Blocks where each outcome is the treatment's with the probability ``share``: some of one arm,
    then the first of the other."""
    cases = [(count, 1, part * (1 - share)) for count, part in _runs(share)]
    cases += [(1, count, part * share) for count, part in _runs(1 - share)]
    return Shape(tuple(cases), 1 / share + 1 / (1 - share) - 1)


def _runs(ends: float) -> Iterator[tuple[int, float]]:
    """How many come in a row, each being the last with the probability ``ends``; long rows of
    about the same length are taken together."""
    first, left = 1, 1.0
    while left > _RARE:
        last = first if first <= _EXACT else first + first // 4
        # (Exact where ``ends`` is tiny, and cheap where rows are endless.)
        goes_on = math.exp((last - first + 1) * math.log1p(-ends))
        yield round(math.sqrt(first * last)), left * (1 - goes_on)
        first, left = last + 1, left * goes_on


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


def yes_or_no(control: float, treatment: float, shape: Shape) -> Distribution:
    """A block's difference where each unit's outcome is 1 with these probabilities."""
    return [
        (of_treatment - of_control, part * part_t * part_c)
        for count_c, count_t, part in shape.cases
        for of_treatment, part_t in _means(treatment, count_t)
        for of_control, part_c in _means(control, count_c)
    ]


def _means(probability: float, count: int) -> list[tuple[float, float]]:
    """Of so many outcomes; of many, two values with that mean and variance will do."""
    if count > _EXACT:
        deviation = math.sqrt(probability * (1 - probability) / count)
        deviation = min(deviation, probability, 1 - probability)
        return [(probability - deviation, 0.5), (probability + deviation, 0.5)]
    return [
        (
            yes / count,
            math.comb(count, yes) * probability**yes * (1 - probability) ** (count - yes),
        )
        for yes in range(count + 1)
    ]


def graded(effect: float, variance: float, shape: Shape) -> Distribution:
    """A block's difference where outcomes are finely graded and vary by ``variance``: two values
    with its mean and variance for each case are enough."""
    found: list[tuple[float, float]] = []
    for count_c, count_t, part in shape.cases:
        deviation = math.sqrt(variance / count_c + variance / count_t)
        deviation = min(deviation, 1 - abs(effect))
        found += [(effect - deviation, part / 2), (effect + deviation, part / 2)]
    return found


def days_left(*, needed_units: int, seen_units: int, seen_days: float) -> float | None:
    """Days until ``needed_units`` are there, at the pace so far; None while nothing is known."""
    if seen_units == 0 or seen_days <= 0:
        return None
    return max(0, needed_units - seen_units) * seen_days / seen_units
