"""How often an epoch sees each row of several weighted datasets; knows no tokens and no model."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """Rows of one dataset, which stand behind those of the datasets before it."""

    rows: int
    weight: float = 1.0

    @property
    def whole_times(self) -> int:
        """How often every row comes in every epoch."""
        return math.floor(self.weight)

    @property
    def extra_rows(self) -> int:
        """How many rows, other ones each epoch, come once more; a dataset is never left out."""
        extra = math.floor(self.rows * (self.weight - self.whole_times) + 0.5)
        return max(extra, min(1, self.rows)) if self.whole_times == 0 else extra


def rows_in_epoch(parts: Sequence[Part]) -> int:
    return sum(part.rows * part.whole_times + part.extra_rows for part in parts)


def copies_in_epoch(parts: Sequence[Part], *, seed: int, epoch: int) -> list[int]:
    """How often an epoch sees each row of all ``parts``: a function of its arguments alone, so that
    a resumed run sees the same."""
    copies: list[int] = []
    for place, part in enumerate(parts):
        own = [part.whole_times] * part.rows
        # Not a secret: the choice must be the same again after a restart.
        source = random.Random(f"{seed}:{epoch}:{place}")  # noqa: S311
        for row in source.sample(range(part.rows), part.extra_rows):
            own[row] += 1
        copies += own
    return copies


def spread(order: Sequence[int], copies: Sequence[int]) -> list[int]:
    """The rows of ``order``, each as often as ``copies`` says; the copies of a row lie evenly apart
    over the whole, so that none comes twice in a step where that can be avoided."""
    if all(count == 1 for count in copies):
        return list(order)
    places = [
        ((place / len(order) + turn / copies[row]) % 1.0, place, row)
        for place, row in enumerate(order)
        for turn in range(copies[row])
    ]
    return [row for _, _, row in sorted(places)]
