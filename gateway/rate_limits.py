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
from collections.abc import Callable
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

    async def take(self, quota: Quota, kind: Kind, amount: int = 1) -> Standing | None:
        """Count ``amount``, or raise `TooManyRequests`; None where there is no limit. An amount
        beyond the whole limit counts as all of it: it may pass where nothing else does."""
        limit = quota.limit(kind)
        if limit is None:
            return None
        amount = min(amount, limit)
        moment = self._clock()
        passed = moment % WINDOW_SECONDS / WINDOW_SECONDS
        name = _name(quota, kind)
        current, before = await self._add(name, moment, amount)
        used = current + before * (1 - passed)
        if used > limit:
            await self._add(name, moment, -amount)
            raise TooManyRequests(
                f"This API key may use {limit:,} {kind} a minute, and has.",
                retry_after=_wait(limit - current, before, passed),
            )
        reset = WINDOW_SECONDS * (2 - passed if current else 1 - passed)
        return Standing(kind, limit, math.floor(limit - used), reset)

    async def settle(self, quota: Quota, kind: Kind, *, taken: int, used: int) -> None:
        """Put right what was only estimated when it was taken."""
        limit = quota.limit(kind)
        if limit is not None and used != min(taken, limit):
            await self._add(_name(quota, kind), self._clock(), used - min(taken, limit))

    async def _add(self, name: str, moment: float, amount: int) -> tuple[int, int]:
        """What this minute's counter holds then, and what the last one's does."""
        window = int(moment // WINDOW_SECONDS)
        now, last = f"{name}:{window}", f"{name}:{window - 1}"
        try:
            async with (
                asyncio.timeout(REDIS_SECONDS),
                self._redis.pipeline(transaction=True) as transaction,
            ):
                transaction.incrby(now, amount)
                transaction.expire(now, _KEPT_SECONDS)
                transaction.get(last)
                current, _, before = await transaction.execute()
        except (RedisError, OSError) as error:
            if self._redis_was_there:
                log.warning("Limits are counted by this gateway alone: %s", error)
            self._redis_was_there = False
            return self._add_here(now, last, amount)
        self._redis_was_there = True
        return max(0, int(current)), max(0, int(before or 0))

    def _add_here(self, now: str, last: str, amount: int) -> tuple[int, int]:
        if len(self._local) > _MAX_LOCAL:
            self._local.clear()
        self._local[now] += amount
        return max(0, self._local[now]), max(0, self._local[last])


def _name(quota: Quota, kind: Kind) -> str:
    return f"genplat:limit:{quota.key_id}:{kind}"


def _wait(room: float, before: float, passed: float) -> float:
    """Seconds until as much as was asked for fits; ``room``: what this minute's count leaves."""
    if room < 0 or not before:
        # Not in this minute.
        return max(1.0, WINDOW_SECONDS * (1 - passed))
    return max(1.0, WINDOW_SECONDS * (1 - room / before - passed))
