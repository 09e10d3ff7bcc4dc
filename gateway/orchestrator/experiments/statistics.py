"""Always-valid statistics for bounded outcomes: one may look as often as one likes.

A gambler bets, again and again, a share of his capital on the next value being above a mean. Where
the true mean is that or less, his capital grows with a probability of at most alpha to 1 / alpha
**at any time** (Ville's inequality), whatever the values' distribution in [0, 1] is and however few
there are. So his capital is an e-value, and the means against which he has not won that much are a
confidence sequence. He splits his capital over `BETS`, since the best share is not known before.

The construction is the betting one of Waudby-Smith & Ramdas, "Estimating means of bounded random
variables by betting" (JRSS B 86, 2024), with a mixture of constant bets. Two arms are compared by
the differences of blocks of both, as Turner, Ly & Grünwald do for 2x2 tables ("Generic e-variables
for exact sequential k-sample tests that allow for optional stopping", 2021). Knows no requests and
no database.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

# Shares of the capital, each a bit more than two thirds of the one before: 0.8 down to 0.0044.
BETS = tuple(0.8 * 2 ** (-step / 2) for step in range(16))
# Values are counted in steps, rounded to where they prove less. 5040 has the divisors that keep
# the differences of blocks of up to 10 yes-or-no outcomes exact.
STEPS = 5040
LARGEST_BLOCK = 100
_BISECTIONS = 40
_ROUNDING = 1e-9


@dataclass
class Tally:
    """How often values in [0, 1] were seen; ``low`` are they rounded down, ``high`` rounded up and
    mirrored (one minus the value). Their order does not matter to the capital."""

    count: int = 0
    total: float = 0.0
    low: Counter[int] = field(default_factory=Counter)
    high: Counter[int] = field(default_factory=Counter)

    def add(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise ValueError(f"a value must lie between 0 and 1: {value}")
        self.count += 1
        self.total += value
        self.low[math.floor(value * STEPS + _ROUNDING)] += 1
        self.high[math.floor((1 - value) * STEPS + _ROUNDING)] += 1

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None


def tally_of(values: Iterable[float]) -> Tally:
    tally = Tally()
    for value in values:
        tally.add(value)
    return tally


def log_e_above(tally: Tally, mean: float) -> float:
    """The logarithm of the e-value against "the mean is ``mean`` or less"; for ``mean`` from 0
    (left out) up to 1."""
    return _log_capital(tally.low, mean)


def log_e_below(tally: Tally, mean: float) -> float:
    """The same against "the mean is ``mean`` or more"; for ``mean`` from 0 up to 1 (left out)."""
    return _log_capital(tally.high, 1 - mean)


def lower_bound(tally: Tally, alpha: float) -> float:
    """The mean is above this: at all times together with a probability of 1 - ``alpha``."""
    return _bound(tally.low, alpha)


def upper_bound(tally: Tally, alpha: float) -> float:
    """The mean is below this: at all times together with a probability of 1 - ``alpha``."""
    return 1 - _bound(tally.high, alpha)


def _log_capital(counts: Counter[int], mean: float) -> float:
    """What betting on values above ``mean`` has made of a capital of 1. A bet of ``share`` is
    multiplied by ``1 - share + share * value / mean``, on average by 1 at most under the null."""
    logs = [
        sum(count * math.log1p(share * (step / STEPS / mean - 1)) for step, count in counts.items())
        for share in BETS
    ]
    highest = max(logs)
    return highest + math.log(sum(math.exp(log - highest) for log in logs) / len(BETS))


def _bound(counts: Counter[int], alpha: float) -> float:
    """The highest mean that the capital has refuted: it falls as the mean rises."""
    needed = math.log(1 / alpha)
    refuted, possible = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (refuted + possible) / 2
        if _log_capital(counts, middle) >= needed:
            refuted = middle
        else:
            possible = middle
    return refuted


@dataclass(frozen=True)
class Blocks:
    """How many units of each arm make a block."""

    control: int
    treatment: int

    @property
    def units(self) -> int:
        return self.control + self.treatment


def blocks_for(control_share: float, treatment_share: float) -> Blocks:
    """Blocks in which little of either arm is left over; at most 100 to 1."""
    if control_share >= treatment_share:
        return Blocks(_whole(control_share / treatment_share), 1)
    return Blocks(1, _whole(treatment_share / control_share))


def _whole(ratio: float) -> int:
    return max(1, min(round(ratio), LARGEST_BLOCK))


def block_differences(
    control: Sequence[float], treatment: Sequence[float], blocks: Blocks
) -> list[float]:
    """Treatment's mean minus control's of each whole block; outcomes lie in [0, 1] and come in the
    order in which they were seen, so that a later look only adds blocks."""
    whole = min(len(control) // blocks.control, len(treatment) // blocks.treatment)
    return [
        math.fsum(_block(treatment, number, blocks.treatment)) / blocks.treatment
        - math.fsum(_block(control, number, blocks.control)) / blocks.control
        for number in range(whole)
    ]


def _block(outcomes: Sequence[float], number: int, size: int) -> Sequence[float]:
    return outcomes[number * size : (number + 1) * size]


@dataclass(frozen=True)
class Comparison:
    """Two arms' difference, treatment minus control, by ``blocks`` whole blocks. ``low`` and
    ``high`` hold it at all times together with a probability of 1 - alpha; ``p_value`` is that of
    "the difference is ``null``", and may be looked at at any time too."""

    blocks: int
    difference: float | None
    low: float
    high: float
    null: float
    p_value: float


def compare(differences: Sequence[float], *, alpha: float, null: float = 0.0) -> Comparison:
    """The standing after the ``differences`` of blocks, or of pairs; each lies in [-1, 1]."""
    # As values from 0 to 1; both sides of the interval take half of alpha.
    tally = tally_of(min(max((1 + difference) / 2, 0.0), 1.0) for difference in differences)
    mean = tally.mean
    half = (1 + null) / 2
    log_e = max(log_e_above(tally, half), log_e_below(tally, half)) if tally.count else 0.0
    return Comparison(
        blocks=tally.count,
        difference=None if mean is None else 2 * mean - 1,
        low=2 * lower_bound(tally, alpha / 2) - 1,
        high=2 * upper_bound(tally, alpha / 2) - 1,
        null=null,
        p_value=min(1.0, 2 * math.exp(-log_e)),
    )
