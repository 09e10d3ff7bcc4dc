"""Which deployment a route's request goes to, and to which next; pure, knows no deployment."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Weighted:
    """A target and its share of the requests, relative to the other targets' weights."""

    deployment: str
    weight: float


def order_targets(
    *, targets: Sequence[Weighted], fallbacks: Sequence[str], draw: float
) -> list[str]:
    """The deployments to ask, in order: one target by its weight, then the fallbacks.

    ``draw`` is a random number from 0 up to 1. Targets with weight 0 are never drawn.
    """
    chosen = _weighted_choice(targets, draw)
    return [chosen, *dict.fromkeys(name for name in fallbacks if name != chosen)]


def _weighted_choice(targets: Sequence[Weighted], draw: float) -> str:
    drawable = [target for target in targets if target.weight > 0]
    if not drawable:
        raise ValueError("a route needs a target with a weight above 0")
    left = draw * sum(target.weight for target in drawable)
    for target in drawable:
        left -= target.weight
        if left < 0:
            return target.deployment
    # Rounding can leave a crumb behind the last target.
    return drawable[-1].deployment
