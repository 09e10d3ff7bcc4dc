"""What a metric is: numbers of one answer that add up, and what their sums come to. Pure.

Everything that is reported of a metric (its value, its interval, its test) is a function of sums
over examples, so that a corpus metric such as BLEU is computed anew for every resample and never
averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.evaluations.answered import Answer

Floats = NDArray[np.float64]
# ``share``: 0 to 1. ``points``: 0 to 100. ``number``: without a bound.
Unit = Literal["share", "points", "number"]
Better = Literal["higher", "lower", "neither"]
_BOUNDS: dict[Unit, tuple[float, float]] = {"share": (0.0, 1.0), "points": (0.0, 100.0)}


@dataclass(frozen=True)
class Measured:
    """``value`` is what one answer alone is worth; ``counts`` are what adds up."""

    value: float
    counts: tuple[float, ...]


class Metric(Protocol):
    """``binary``: each value is 0 or 1. ``signature`` says how it is computed, for those who want
    to compute it again. ``bounds``: the lowest and the highest value that there can be."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def unit(self) -> Unit: ...
    @property
    def better(self) -> Better: ...
    @property
    def binary(self) -> bool: ...
    @property
    def signature(self) -> str: ...
    @property
    def bounds(self) -> tuple[float, float] | None: ...

    def measure(self, answers: Sequence[Answer]) -> list[Measured | None]:
        """Each answer by itself; None where it cannot be measured."""

    def total(self, sums: Floats) -> Floats:
        """The metric of sums of counts, [..., counts] to [...]; NaN where there is none."""

    def corpus(self, answers: Sequence[Answer], sums: Floats) -> float:
        """The metric of all measured answers."""


@dataclass(frozen=True)
class Kind:
    """What all metrics say of themselves."""

    name: str
    title: str
    signature: str
    unit: Unit = "share"
    better: Better = "higher"
    binary: bool = False

    @property
    def bounds(self) -> tuple[float, float] | None:
        return _BOUNDS.get(self.unit)


class Averaged(Kind):
    """A metric whose value is the mean of its examples'. ``of`` is given by who inherits."""

    def of(self, answer: Answer) -> float | None:
        raise NotImplementedError

    def measure(self, answers: Sequence[Answer]) -> list[Measured | None]:
        values = [self.of(answer) for answer in answers]
        return [None if value is None else Measured(value, (value, 1.0)) for value in values]

    def total(self, sums: Floats) -> Floats:
        return quotient(sums[..., 0], sums[..., 1])

    def corpus(self, answers: Sequence[Answer], sums: Floats) -> float:  # noqa: ARG002
        return float(self.total(sums))


def quotient(above: Floats, below: Floats) -> Floats:
    """``above / below``, NaN where nothing was counted."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)
