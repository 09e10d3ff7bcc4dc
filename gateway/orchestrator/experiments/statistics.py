"""Always-valid statistics for bounded outcomes: one may look as often as one likes.

A gambler bets, again and again, a share of his capital on the next value being above a mean. Where
the true mean is that or less, his capital grows with a probability of at most alpha to 1 / alpha
**at any time** (Ville's inequality), whatever the values' distribution in [0, 1] is and however few
there are. So his capital is an e-value, and the means against which he has not won that much are a
confidence sequence. He splits his capital over `BETS`, since the best share is not known before.

The construction is the betting one of Waudby-Smith & Ramdas, "Estimating means of bounded random
variables by betting" (JRSS B 86, 2024), with a mixture of constant bets. Two arms are compared by
the differences of blocks of both, as Turner, Ly & Grünwald do for 2x2 tables ("Generic e-variables
for exact sequential k-sample tests that allow for optional stopping", 2021); ours are as short as
can be, so that both arms of a block have seen the same weather. Knows no requests and no database.
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
_BISECTIONS = 32
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


@dataclass
class _Open:
    """What one arm has given since the last block ended."""

    count: int = 0
    total: float = 0.0


class Blocks:
    """Two arms' outcomes from 0 to 1, added in the order in which they were seen. A block ends as
    soon as both arms have given something since the one before; its difference is treatment's mean
    in it minus control's. Nothing is kept waiting for a partner of another time: what rises and
    falls for both arms cannot look like a difference between them, and an arm of which more is
    heard, or sooner, gains nothing by it. Later outcomes only add blocks."""

    def __init__(self) -> None:
        self.differences: list[float] = []
        # How many outcomes these blocks hold.
        self.units = 0
        self._control, self._treatment = _Open(), _Open()

    def add(self, value: float, *, to_treatment: bool) -> None:
        arm = self._treatment if to_treatment else self._control
        arm.count += 1
        arm.total += value
        control, treatment = self._control, self._treatment
        if control.count and treatment.count:
            self.differences.append(
                treatment.total / treatment.count - control.total / control.count
            )
            self.units += control.count + treatment.count
            self._control, self._treatment = _Open(), _Open()


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
    """The standing after the ``differences`` of blocks; each lies in [-1, 1]. Both sides of the
    interval take half of alpha."""
    tally = _of_differences(differences)
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


def lowest_difference(differences: Sequence[float], alpha: float) -> float:
    """The difference is above this: at all times together with a probability of 1 - ``alpha``."""
    return 2 * lower_bound(_of_differences(differences), alpha) - 1


def _of_differences(differences: Iterable[float]) -> Tally:
    """As values from 0 to 1."""
    return tally_of(min(max((1 + difference) / 2, 0.0), 1.0) for difference in differences)
