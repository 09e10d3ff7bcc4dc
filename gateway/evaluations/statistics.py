"""How sure a difference is: bootstrap intervals and paired tests over examples. Pure; knows metrics
only as functions of sums.

- An interval comes from the bootstrap (Efron and Tibshirani 1993): examples are drawn with
  replacement and the metric is computed of each resample's sums; bias-corrected and accelerated
  (BCa), with the jackknife's acceleration.
- Where all examples agree, all resamples do, which says nothing of examples that were not seen: at
  most a share of them (of Wilson's score interval of none in so many) is otherwise, and that may be
  as good or as bad as the metric knows. Of shares of 0 and 1 this is Wilson's interval itself.
- A difference is resampled in pairs: both models on the same examples. Where all pairs agree, its
  interval is put together from those of the two values (Newcombe 1998).
- Its test is the randomization test of paired samples (exchange the two answers of an example with
  probability one half), two-sided; for values of 0 and 1 it is McNemar's exact test.
- Of several metrics some differ by chance: `holm` raises the p-values for their number.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# The metric of sums, [..., counts] to [...].
Total = Callable[[Floats], Floats]

# The lowest and the highest value that a metric can have; None where there is no such thing.
Bounds = tuple[float, float] | None

RESAMPLES = 2000
# Of random numbers held at once.
_BLOCK = 4_000_000
# Resamples that are no further apart than the last bits of sums of floats are all the same.
_SAME = 1e-12
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Interval:
    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Difference:
    """What the second model is beyond the first, on examples that both answered."""

    value: float
    interval: Interval
    p_value: float
    test: str
    examples: int


_NO_INTERVAL = Interval(math.nan, math.nan, "none")


def interval(
    counts: Floats,
    total: Total,
    *,
    value: float,
    seed: int,
    bounds: Bounds = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Around ``value``, the metric of all examples; ``counts`` is [examples, counts]."""
    if len(counts) == 0 or not math.isfinite(value):
        return _NO_INTERVAL
    drawn = np.concatenate(
        [total(weights @ counts) for weights in _draws(len(counts), resamples, seed)]
    )
    sums = counts.sum(axis=0)
    # (The value may be another than that of the sums: GLEU draws references.)
    apart = value - float(total(sums))
    if _all_the_same(drawn):
        return _of_equals(value, len(counts), bounds, confidence)
    return _bca(value, drawn + apart, total(sums - counts) + apart, confidence)


def difference(
    first: Floats,
    second: Floats,
    total: Total,
    *,
    values: tuple[float, float],
    seed: int,
    binary: bool = False,
    bounds: Bounds = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Difference:
    """``first`` and ``second`` are the counts of the same examples, [examples, counts]; ``values``
    the metric of each, between ``bounds``."""
    value = values[1] - values[0]
    if len(first) == 0 or not math.isfinite(value):
        return Difference(math.nan, _NO_INTERVAL, math.nan, "none", 0)
    drawn = np.concatenate(
        [
            total(weights @ second) - total(weights @ first)
            for weights in _draws(len(first), resamples, seed)
        ]
    )
    before, after = first.sum(axis=0), second.sum(axis=0)
    left_out = total(after - second) - total(before - first)
    apart = value - float(total(after) - total(before))
    if binary:
        p_value, test = mcnemar(first[:, 0], second[:, 0]), "McNemar, exact"
    else:
        p_value = randomization(first, second, total, seed=seed, resamples=resamples)
        test = "paired randomization"
    if _all_the_same(drawn):
        own = [_of_equals(one, len(first), bounds, confidence) for one in values]
        found = _of_equal_pairs(values, own)
    else:
        found = _bca(value, drawn + apart, left_out + apart, confidence)
    return Difference(value, found, p_value, test, len(first))


def _draws(examples: int, resamples: int, seed: int) -> Iterable[Floats]:
    """How often each resample holds each example, [resamples, examples], in blocks. The same for
    all metrics, so that they are drawn once where they fit into memory."""
    if examples * resamples <= _BLOCK:
        return _kept_draws(examples, resamples, seed)
    return _drawn(examples, resamples, seed)


@lru_cache(maxsize=2)
def _kept_draws(examples: int, resamples: int, seed: int) -> tuple[Floats, ...]:
    return tuple(_drawn(examples, resamples, seed))


def _drawn(examples: int, resamples: int, seed: int) -> Iterator[Floats]:
    source = np.random.default_rng(seed)
    share = np.full(examples, 1 / examples)
    block = max(1, _BLOCK // examples)
    for begin in range(0, resamples, block):
        size = min(block, resamples - begin)
        yield source.multinomial(examples, share, size=size).astype(np.float64)


def _all_the_same(drawn: Floats) -> bool:
    return bool(np.ptp(drawn) <= _SAME * max(1.0, abs(drawn[0])))


def _of_equals(value: float, examples: int, bounds: Bounds, confidence: float) -> Interval:
    if bounds is not None:
        otherwise = wilson(0.0, examples, confidence).high
        low = value - otherwise * (value - bounds[0])
        return Interval(low, value + otherwise * (bounds[1] - value), "Wilson")
    return _NO_INTERVAL if examples < 2 else Interval(value, value, "constant")


def _of_equal_pairs(values: tuple[float, float], own: Sequence[Interval]) -> Interval:
    (first, second), (one, other) = values, own
    down = math.hypot(second - other.low, one.high - first)
    up = math.hypot(other.high - second, first - one.low)
    method = {"Wilson": "Newcombe"}.get(one.method, one.method)
    return Interval(second - first - down, second - first + up, method)


def _bca(value: float, drawn: Floats, left_out: Floats, confidence: float) -> Interval:
    """The quantiles of what was drawn, moved for its bias and for how the spread changes with the
    value. Where one of both cannot be told, the quantiles as they are."""
    drawn, left_out = drawn[np.isfinite(drawn)], left_out[np.isfinite(left_out)]
    if not len(drawn):
        return _NO_INTERVAL
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    below = (np.mean(drawn < value) + np.mean(drawn <= value)) / 2
    method = "percentile"
    if 0 < below < 1 and len(left_out) > 1:
        bias = _NORMAL.inv_cdf(float(below))
        spread = left_out.mean() - left_out
        scale = float((spread**2).sum()) ** 1.5
        acceleration = float((spread**3).sum()) / (6 * scale) if scale > 0 else 0.0
        moved = [bias + _NORMAL.inv_cdf(float(tail)) for tail in tails]
        if all(1 - acceleration * one > 0 for one in moved):
            tails = np.array([_NORMAL.cdf(bias + one / (1 - acceleration * one)) for one in moved])
            method = "BCa"
    low, high = np.quantile(drawn, tails)
    return Interval(float(low), float(high), method)


def wilson(share: float, examples: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share (Wilson 1927)."""
    z = _NORMAL.inv_cdf((1 + confidence) / 2)
    below = 1 + z * z / examples
    middle = (share + z * z / (2 * examples)) / below
    half = z * math.sqrt(share * (1 - share) / examples + (z / (2 * examples)) ** 2) / below
    return Interval(max(0.0, middle - half), min(1.0, middle + half), "Wilson")


def randomization(
    first: Floats, second: Floats, total: Total, *, seed: int, resamples: int = RESAMPLES
) -> float:
    """How often answers that are exchanged at random make a difference as large as the one that was
    found, counting that one: never 0."""
    source = np.random.default_rng(seed + 1)
    of_first, of_second = first.sum(axis=0), second.sum(axis=0)
    found = abs(float(total(of_second) - total(of_first)))
    as_large = 1
    block = max(1, _BLOCK // len(first))
    for begin in range(0, resamples, block):
        size = min(block, resamples - begin)
        exchanged = source.integers(0, 2, size=(size, len(first))).astype(np.float64)
        moved = exchanged @ (second - first)
        apart = np.abs(total(of_second - moved) - total(of_first + moved))
        # (A hair less than found is as large: sums of floats differ in their last bits.)
        as_large += int(np.sum(apart >= found * (1 - 1e-9) - 1e-12))
    return as_large / (resamples + 1)


def mcnemar(first: Floats, second: Floats) -> float:
    """Two-sided exact test (McNemar 1947) of two series of 0 and 1 on the same examples."""
    only_first = int(np.sum((first > 0) & (second == 0)))
    only_second = int(np.sum((first == 0) & (second > 0)))
    apart, fewer = only_first + only_second, min(only_first, only_second)
    if apart == 0:
        return 1.0
    # Ways to choose none, one, two … of them: each from the one before.
    ways = tail = 1
    for count in range(fewer):
        ways = ways * (apart - count) // (count + 1)
        tail += ways
    return min(1.0, float(2 * tail / 2**apart))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, raised so that the chance of one false alarm among them all stays what it says
    (Holm 1979). NaN stays, and counts for nothing."""
    order = sorted(
        (place for place, p in enumerate(p_values) if not math.isnan(p)),
        key=lambda place: p_values[place],
    )
    raised, highest = list(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, p_values[place] * (len(order) - rank)))
        raised[place] = highest
    return raised
