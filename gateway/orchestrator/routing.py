"""Whom a route's request goes to, and whom next; pure, knows labels alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Sticky = Literal["user", "conversation"]


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


def sticky_draw(route: str, sticky: str | None, asker: Asker, draw: float) -> float:
    """The same number from 0 up to 1 for all requests of one user, or one conversation, of a
    route; ``draw`` where the request does not say whose it is. Weights that change move as few
    askers as possible, since an asker's number stays."""
    key = {"user": asker.user, "conversation": asker.conversation}.get(sticky or "")
    if not key:
        return draw
    digest = hashlib.sha256(f"{route}\n{sticky}\n{key}".encode(errors="replace")).digest()
    return int.from_bytes(digest[:6]) / 2**48


def order_targets(
    *, targets: Sequence[Weighted], fallbacks: Sequence[str], draw: float
) -> list[str]:
    """The labels to ask, in order: one target by its weight, then the fallbacks.

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
            return target.label
    # Rounding can leave a crumb behind the last target.
    return drawable[-1].label
