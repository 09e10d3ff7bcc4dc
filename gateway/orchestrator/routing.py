"""Whom a route's request goes to, and whom next; pure, knows labels alone."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Sticky = Literal["user", "conversation"]
Balance = Literal["weights", "fastest"]
_FINE = 2**20


@dataclass(frozen=True)
class Weighted:
    """A target and its share of the requests, relative to the other targets' weights."""

    label: str
    weight: float


@dataclass(frozen=True)
class Asker:
    """Who asks, where the request says so: ``user`` as OpenAI's field names them, and what tells
    one conversation from another."""

    user: str | None = None
    conversation: str | None = None


def sticky_key(route: str, sticky: str | None, asker: Asker) -> str | None:
    """The same for all requests of one user, or one conversation, of a route; None where the
    request does not say whose it is."""
    whose = {"user": asker.user, "conversation": asker.conversation}.get(sticky or "")
    return f"{route}\n{sticky}\n{whose}" if whose else None


def order_targets(
    *,
    targets: Sequence[Weighted],
    fallbacks: Sequence[str],
    draw: float,
    key: str | None = None,
    cost: Callable[[str], float] | None = None,
) -> list[str]:
    """The labels to ask, in order: one target by its weight, then the fallbacks, then the other
    targets: each is better than no answer.

    ``draw`` is a random number from 0 up to 1; with a ``key`` that decides instead. Targets with
    weight 0 are never asked. With ``cost`` the quicker one of two that are drawn is asked (the
    power of two choices, Mitzenmacher 2001: the quickest of all would be asked by everybody at
    once).
    """
    drawable = [target for target in targets if target.weight > 0]
    chosen = _sticky_choice(drawable, key) if key else _weighted_choice(drawable, draw)
    others = [target for target in drawable if target.label != chosen]
    if cost is not None and others:
        # The part of the draw that the first choice has not used is as random.
        second = _weighted_choice(others, draw * _FINE % 1)
        chosen = min((chosen, second), key=cost)
    rest = (*fallbacks, *(target.label for target in drawable))
    return [chosen, *dict.fromkeys(name for name in rest if name != chosen)]


def _sticky_choice(targets: Sequence[Weighted], key: str) -> str:
    """Weighted rendezvous hashing (Schindelhauer and Schomaker 2005, the logarithmic method): where
    weights change, or targets come and go, nobody leaves one that grows, nobody comes to one that
    shrinks, and whose target keeps its weight moves only to one that grows."""

    def score(target: Weighted) -> float:
        digest = hashlib.sha256(f"{key}\n{target.label}".encode(errors="replace")).digest()
        # Above 0 and below 1.
        number = (int.from_bytes(digest[:6]) + 0.5) / 2**48
        return -target.weight / math.log(number)

    return max(targets, key=score).label


def _weighted_choice(targets: Sequence[Weighted], draw: float) -> str:
    if not targets:
        raise ValueError("a route needs a target with a weight above 0")
    left = draw * sum(target.weight for target in targets)
    for target in targets:
        left -= target.weight
        if left < 0:
            return target.label
    # Rounding can leave a crumb behind the last target.
    return targets[-1].label
