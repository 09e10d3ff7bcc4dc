"""How much a key may ask in a minute, counted in Redis: the same for all gateways. Knows no HTTP.

A sliding window out of two fixed ones: what was counted in this minute, and of the minute before
the share that lies less than sixty seconds back. Counters are added to first and looked at then,
so that of requests that come at once no more pass than may; one that is refused is taken back.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import TooManyRequests

log = logging.getLogger(__name__)

WINDOW_SECONDS = 60
# A counter is read in its own minute and in the next one.
_KEPT_SECONDS = 3 * WINDOW_SECONDS
_MAX_LOCAL = 10_000
# Whoever asks a model waits for this.
REDIS_SECONDS = 1.0

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
        self._redis, self._clock = redis, clock
        self._local: Counter[str] = Counter()
        self._redis_was_there = True

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
                await self._add(quota, {name: -count for name, count in wanted.items()}, moment)
                raise TooManyRequests(
                    f"This API key may use {limit:,} {kind} a minute, and has.",
                    retry_after=_wait(limit - current, before, passed),
                )
            reset = WINDOW_SECONDS * (2 - passed)
            standings.append(Standing(kind, limit, math.floor(limit - used), reset))
        return standings

    async def settle(
        self, quota: Quota, kind: Kind, *, taken: int, used: int, moment: float
    ) -> None:
        """Put right what was only estimated when it was taken, at that ``moment``: given back in a
        later minute it would let more pass there than may."""
        limit = quota.limit(kind)
        if limit is not None and used != min(taken, limit):
            await self._add(quota, {kind: used - min(taken, limit)}, moment)

    async def _add(
        self, quota: Quota, amounts: Mapping[Kind, int], moment: float
    ) -> dict[Kind, tuple[int, int]]:
        """What the counters of this minute hold then, and what those of the last one do."""
        window = int(moment // WINDOW_SECONDS)
        names = {
            kind: (_name(quota, kind, window), _name(quota, kind, window - 1)) for kind in amounts
        }
        try:
            async with (
                asyncio.timeout(REDIS_SECONDS),
                self._redis.pipeline(transaction=True) as transaction,
            ):
                for kind, (now, last) in names.items():
                    transaction.incrby(now, amounts[kind])
                    transaction.expire(now, _KEPT_SECONDS)
                    transaction.get(last)
                answers = iter(await transaction.execute())
        except (RedisError, OSError) as error:
            if self._redis_was_there:
                log.warning("Limits are counted by this gateway alone: %s", error)
            self._redis_was_there = False
            return {kind: self._add_here(*names[kind], amounts[kind]) for kind in amounts}
        self._redis_was_there = True
        counted = {}
        for kind in names:
            current, _, before = next(answers), next(answers), next(answers)
            counted[kind] = max(0, int(current)), max(0, int(before or 0))
        return counted

    def _add_here(self, now: str, last: str, amount: int) -> tuple[int, int]:
        if len(self._local) > _MAX_LOCAL:
            self._local.clear()
        self._local[now] = max(0, self._local[now] + amount)
        return self._local[now], self._local[last]


def _name(quota: Quota, kind: Kind, window: int) -> str:
    return f"genplat:limit:{quota.key_id}:{kind}:{window}"


def _wait(room: float, before: float, passed: float) -> float:
    """Seconds until as much as was asked for fits; ``room``: what this minute's count leaves."""
    if room < 0 or not before:
        # Not in this minute.
        return max(1.0, WINDOW_SECONDS * (1 - passed))
    return max(1.0, WINDOW_SECONDS * (1 - room / before - passed))
