"""Counters that all gateways share, in Redis; where it is away each gateway counts for itself."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

# A counter is read in its own minute and in the next one.
KEPT_SECONDS = 180
# Whoever asks a model waits for this.
REDIS_SECONDS = 1.0
_MAX_LOCAL = 10_000
_MAX_TOGETHER = 500

# All or nothing, and one message for what many requests count.
_ADD = f"""
local counted = {{}}
for place, amount in ipairs(ARGV) do
    local name, before = KEYS[2 * place - 1], KEYS[2 * place]
    counted[2 * place - 1] = redis.call('INCRBY', name, amount)
    redis.call('EXPIRE', name, {KEPT_SECONDS})
    counted[2 * place] = tonumber(redis.call('GET', before) or 0)
end
return counted
"""


@dataclass(frozen=True)
class Change:
    """An amount to add to the counter ``name``; ``before`` is the one to read with it."""

    name: str
    before: str
    amount: int


# What the counter holds then, and what the one before it does.
Counted = tuple[int, int]


@dataclass(frozen=True)
class _Waiting:
    changes: Sequence[Change]
    counted: "asyncio.Future[list[Counted]]"


class Counters:
    """What is asked for while Redis is being asked goes there together, in one message: of 64
    requests at once each would else wait for 63 others. On one event loop."""

    def __init__(self, redis: Redis) -> None:
        self._script = redis.register_script(_ADD)
        self._waiting: list[_Waiting] = []
        self._sender: asyncio.Task[None] | None = None
        self._local: Counter[str] = Counter()
        self._redis_was_there = True

    def add(self, changes: Sequence[Change]) -> "asyncio.Future[list[Counted]]":
        """Add all of them at once, after all that was asked for before. Nobody has to wait."""
        counted: asyncio.Future[list[Counted]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(changes, counted))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return counted

    async def _send(self) -> None:
        try:
            while self._waiting:
                together = self._waiting[:_MAX_TOGETHER]
                del self._waiting[:_MAX_TOGETHER]
                counts = iter(await self._counted([c for w in together for c in w.changes]))
                for waiting in together:
                    found = [next(counts) for _ in waiting.changes]
                    if not waiting.counted.done():
                        waiting.counted.set_result(found)
        finally:
            self._sender = None

    async def _counted(self, changes: Sequence[Change]) -> list[Counted]:
        names = [name for change in changes for name in (change.name, change.before)]
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                found = await self._script(names, [change.amount for change in changes])
        except (RedisError, OSError) as error:
            if self._redis_was_there:
                log.warning("Limits are counted by this gateway alone: %s", error)
            self._redis_was_there = False
            return [self._count_here(change) for change in changes]
        self._redis_was_there = True
        return [
            (max(0, now), max(0, before))
            for now, before in zip(found[::2], found[1::2], strict=True)
        ]

    def _count_here(self, change: Change) -> Counted:
        if len(self._local) > _MAX_LOCAL:
            self._local.clear()
        self._local[change.name] = max(0, self._local[change.name] + change.amount)
        return self._local[change.name], self._local[change.before]
