"""How sure a difference is: bootstrap intervals and paired tests over examples. Pure; knows metrics
only as functions of sums.

- An interval comes from the bootstrap (Efron and Tibshirani 1993): examples are drawn with
  replacement and the metric is computed of each resample's sums; bias-corrected and accelerated
  (BCa), with the jackknife's acceleration. Where all examples agree there is nothing to resample:
  a share then gets Wilson's score interval, anything else its one value.
- A difference is resampled in pairs: both models on the same examples.
- Its test is the randomization test of paired samples (exchange the two answers of an example with
  probability one half), two-sided; for values of 0 and 1 it is McNemar's exact test.
- Of several metrics some differ by chance: `holm` raises the p-values for their number.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# The metric of sums, [..., counts] to [...].
Total = Callable[[Floats], Floats]

RESAMPLES = 2000
# Of random numbers held at once.
_BLOCK = 4_000_000
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


def interval(
    counts: Floats,
    total: Total,
    *,
    value: float,
    seed: int,
    binary: bool = False,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Around ``value``, the metric of all examples; ``counts`` is [examples, counts]."""
    if len(counts) == 0 or not math.isfinite(value):
        return Interval(math.nan, math.nan, "none")
    if bool((counts == counts[0]).all()):
        return _of_equals(value, len(counts), binary, confidence)
    drawn = np.concatenate(
        [total(weights @ counts) for weights in _draws(len(counts), resamples, seed)]
    )
    left_out = total(counts.sum(axis=0) - counts)
    return _bca(value, drawn, left_out, confidence)


def difference(
    first: Floats,
    second: Floats,
    total: Total,
    *,
    values: tuple[float, float],
    seed: int,
    binary: bool = False,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Difference:
    """``first`` and ``second`` are the counts of the same examples, [examples, counts]; ``values``
    the metric of each."""
    value = values[1] - values[0]
    if len(first) == 0 or not math.isfinite(value):
        return Difference(math.nan, Interval(math.nan, math.nan, "none"), math.nan, "none", 0)
    drawn = np.concatenate(
        [
            total(weights @ second) - total(weights @ first)
            for weights in _draws(len(first), resamples, seed)
        ]
    )
    left_out = total(second.sum(axis=0) - second) - total(first.sum(axis=0) - first)
    if binary:
        p_value, test = mcnemar(first[:, 0], second[:, 0]), "McNemar, exact"
    else:
        p_value = randomization(first, second, total, seed=seed, resamples=resamples)
        test = "paired randomization"
    found = _bca(value, drawn, left_out, confidence)
    return Difference(value, found, p_value, test, len(first))


def _draws(examples: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each resample holds each example, [resamples, examples], in blocks."""
    source = np.random.default_rng(seed)
    share = np.full(examples, 1 / examples)
    block = max(1, _BLOCK // examples)
    for begin in range(0, resamples, block):
        size = min(block, resamples - begin)
        yield source.multinomial(examples, share, size=size).astype(np.float64)


def _bca(value: float, drawn: Floats, left_out: Floats, confidence: float) -> Interval:
    """The quantiles of what was drawn, moved for its bias and for how the spread changes with the
    value. Where one of both cannot be told, the quantiles as they are."""
    drawn, left_out = drawn[np.isfinite(drawn)], left_out[np.isfinite(left_out)]
    if not len(drawn):
        return Interval(math.nan, math.nan, "none")
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


def _of_equals(value: float, examples: int, binary: bool, confidence: float) -> Interval:
    return wilson(value, examples, confidence) if binary else Interval(value, value, "constant")


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
    tail = sum(math.comb(apart, count) for count in range(fewer + 1))
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
