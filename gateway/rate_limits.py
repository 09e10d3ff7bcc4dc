"""How much a key may ask in a minute, counted in Redis: the same for all gateways. Knows no HTTP.

A sliding window out of two fixed ones: what was counted in this minute, and of the minute before
the share that lies less than sixty seconds back. Counters are added to first and looked at then,
so that of requests that come at once no more pass than may; one that is refused is taken back.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from redis.asyncio import Redis

from gateway.counters import Change, Counters
from shared.errors import TooManyRequests

WINDOW_SECONDS = 60

Kind = Literal["requests", "tokens"]


@dataclass(frozen=True)
class Quota:
    """Of the key with this id, a minute; None: without limit."""

    key_id: str
    requests: int | None = None
    tokens: int | None = None

    def limit(self, kind: Kind) -> int | None:
        return self.requests if kind == "requests" else self.tokens


@dataclass(frozen=True)
class Standing:
    """What is left after a request was let in; ``reset_seconds`` until all is there again."""

    kind: Kind
    limit: int
    remaining: int
    reset_seconds: float

    @property
    def headers(self) -> dict[str, str]:
        """As OpenAI names them."""
        return {
            f"x-ratelimit-limit-{self.kind}": str(self.limit),
            f"x-ratelimit-remaining-{self.kind}": str(self.remaining),
            f"x-ratelimit-reset-{self.kind}": f"{self.reset_seconds:.1f}s",
        }


class RateLimits:
    """Counts for all keys. Where Redis is away each gateway counts for itself."""

    def __init__(self, redis: Redis, clock: Callable[[], float] = time.time) -> None:
        self._counters, self._clock = Counters(redis), clock
        # For metrics.
        self.refused: dict[Kind, int] = {"requests": 0, "tokens": 0}

    def now(self) -> float:
        """The moment that a request counts for, all of it."""
        return self._clock()

    async def take(
        self, quota: Quota, amounts: Mapping[Kind, int], moment: float | None = None
    ) -> list[Standing]:
        """Count the amounts that have a limit, or raise `TooManyRequests` and count none. An
        amount beyond the whole limit counts as all of it: it may pass where nothing else does."""
        limits = {kind: limit for kind in amounts if (limit := quota.limit(kind)) is not None}
        if not limits:
            return []
        moment = self.now() if moment is None else moment
        passed = moment % WINDOW_SECONDS / WINDOW_SECONDS
        wanted = {kind: min(amounts[kind], limit) for kind, limit in limits.items()}
        counted = await self._add(quota, wanted, moment)
        standings = []
        for kind, limit in limits.items():
            current, before = counted[kind]
            used = current + before * (1 - passed)
            if used > limit:
                self.refused[kind] += 1
                await self._add(quota, {name: -count for name, count in wanted.items()}, moment)
                raise TooManyRequests(
                    f"This API key may use {limit:,} {kind} a minute, and has.",
                    retry_after=_wait(limit - current, before, passed),
                )
            reset = WINDOW_SECONDS * (2 - passed)
            standings.append(Standing(kind, limit, math.floor(limit - used), reset))
        return standings

    def settle(self, quota: Quota, kind: Kind, *, taken: int, used: int, moment: float) -> None:
        """Put right what was only estimated when it was taken, at that ``moment``: given back in a
        later minute it would let more pass there than may. Nobody waits for it; whatever is taken
        here afterwards is counted afterwards."""
        limit = quota.limit(kind)
        if limit is not None and used != min(taken, limit):
            window = int(moment // WINDOW_SECONDS)
            self._counters.add([_change(quota, kind, window, used - min(taken, limit))])

    async def _add(
        self, quota: Quota, amounts: Mapping[Kind, int], moment: float
    ) -> dict[Kind, tuple[int, int]]:
        """What the counters of this minute hold then, and what those of the last one do."""
        window = int(moment // WINDOW_SECONDS)
        changes = [_change(quota, kind, window, amount) for kind, amount in amounts.items()]
        return dict(zip(amounts, await self._counters.add(changes), strict=True))


def _change(quota: Quota, kind: Kind, window: int, amount: int) -> Change:
    name = f"genplat:limit:{quota.key_id}:{kind}"
    return Change(f"{name}:{window}", f"{name}:{window - 1}", amount)


def _wait(room: float, before: float, passed: float) -> float:
    """Seconds until as much as was asked for fits; ``room``: what this minute's count leaves."""
    if room < 0 or not before:
        # Not in this minute.
        return max(1.0, WINDOW_SECONDS * (1 - passed))
    return max(1.0, WINDOW_SECONDS * (1 - room / before - passed))
