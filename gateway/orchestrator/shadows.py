"""Shadow traffic: what a reader has been answered is asked of another target too, in the
background, and its answer is logged beside the reader's.

It never delays or fails a reader: an offer is taken or dropped at once, few are asked at a time,
and what waits is lost when the gateway stops. Dropped offers are counted. Knows no database.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from gateway.completion_requests import Request
from gateway.orchestrator.breaker import Breakers, Visit
from gateway.orchestrator.plans import Shadow
from gateway.request_log.entries import Origin

WAITING = 32

# What became of an offer; asked ones end as answered or failed.
Fate = Literal["skipped", "resting", "busy", "answered", "failed"]


@dataclass(frozen=True)
class Offer:
    """A request that a reader has been answered. ``reader_id`` is its id in the request log, and
    ``origin`` says how much of it may be kept there. ``visit``: by which the target's breaker has
    let it pass, once it was taken."""

    owner: str
    route: str
    shadow: Shadow
    request: Request
    reader_id: str
    origin: Origin
    visit: Visit | None = None


class Shadows:
    """What waits to be asked in the background of one gateway."""

    def __init__(
        self,
        breakers: Breakers,
        *,
        waiting: int = WAITING,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._breakers, self._draw = breakers, draw
        self._waiting: asyncio.Queue[Offer] = asyncio.Queue(waiting)
        self.counts: Counter[Fate] = Counter()

    def offer(self, offer: Offer) -> bool:
        """Whether the offer was taken. Never waits, never raises."""
        if self._draw() >= offer.shadow.share:
            return self._refused("skipped")
        if self._waiting.full():
            return self._refused("busy")
        # Last, since what is let pass may be what probes a target that failed.
        visit = self._breakers.of(offer.shadow.target.label).visit()
        if not visit.admitted:
            return self._refused("resting")
        self._waiting.put_nowait(replace(offer, visit=visit))
        return True

    def _refused(self, fate: Fate) -> bool:
        self.counts[fate] += 1
        return False

    async def next(self) -> Offer:
        """The oldest that waits."""
        return await self._waiting.get()
