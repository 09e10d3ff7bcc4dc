"""Shadow traffic: what a reader has been answered is asked of another target too, in the
background, and its answer is logged beside the reader's.

It never delays or fails a reader: an offer is taken or dropped at once, few are asked at a time,
and what waits is lost when the gateway stops. Dropped offers are counted. Knows no database.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gateway.completion_requests import Request
from gateway.orchestrator.breaker import Breakers
from gateway.orchestrator.plans import Shadow
from gateway.request_log.entries import Origin

WAITING = 32

# What became of an offer; asked ones end as answered or failed.
Fate = Literal["skipped", "resting", "busy", "answered", "failed"]


@dataclass(frozen=True)
class Offer:
    """A request that a reader has been answered. ``reader_id`` is its id in the request log, and
    ``origin`` says how much of it may be kept there."""

    owner: str
    route: str
    shadow: Shadow
    request: Request
    reader_id: str
    origin: Origin


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
        fate = self._refusal(offer)
        if fate is None:
            self._waiting.put_nowait(offer)
        else:
            self.counts[fate] += 1
        return fate is None

    def _refusal(self, offer: Offer) -> Fate | None:
        if self._draw() >= offer.shadow.share:
            return "skipped"
        if self._waiting.full():
            return "busy"
        # Last, since what it admits may be the one that probes a target that failed.
        admits = self._breakers.of(offer.shadow.target.label).admits()
        return None if admits else "resting"

    async def next(self) -> Offer:
        """The oldest that waits."""
        return await self._waiting.get()
