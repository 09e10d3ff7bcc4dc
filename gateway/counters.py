"""Counts of the last minute that all gateways share, in Redis and by its clock; where Redis is
away each gateway counts for itself, anew."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.minute import MINUTE, SECOND, Amount, Counted, Minute, take

log = logging.getLogger(__name__)

# Whoever asks a model waits for this.
REDIS_SECONDS = 1.0
# A Redis that did not answer is not waited for again by every request.
PAUSE_SECONDS = 2.0
_MAX_LOCAL = 10_000
_MAX_TOGETHER = 200

# `gateway.minute` in Redis. Of each name a hash: `sum`; `first`, the oldest second that may hold
# something; `newest`, when something was counted last; and of each second its number with what was
# counted in it, and `l` before that with the moment of the last of it.
_SCRIPT = f"""
local MINUTE, SECOND = {MINUTE}, {SECOND}
local clock = redis.call('TIME')
local now = tonumber(ARGV[1]) or clock[1] * 1000 + math.floor(clock[2] / 1000)

local function look(name)
    local found = redis.call('HMGET', name, 'sum', 'first', 'newest')
    local newest = tonumber(found[3])
    if not newest or math.abs(now - newest) >= MINUTE then
        redis.call('DEL', name)
        return {{name = name, now = now, sum = 0, first = math.floor(now / SECOND), newest = 0}}
    end
    local seen = {{name = name, now = math.max(now, newest), newest = newest}}
    seen.sum, seen.first = tonumber(found[1]), tonumber(found[2])
    local before = seen.first
    while seen.first * SECOND + MINUTE <= seen.now do
        local second = redis.call('HMGET', name, seen.first, 'l' .. seen.first)
        if second[1] then
            if tonumber(second[2]) + MINUTE > seen.now then break end
            seen.sum = seen.sum - second[1]
            redis.call('HDEL', name, seen.first, 'l' .. seen.first)
        end
        seen.first = seen.first + 1
    end
    if seen.first ~= before then
        redis.call('HSET', name, 'sum', seen.sum, 'first', seen.first)
    end
    return seen
end

local function wait(seen, amount, limit)
    local needed, found = seen.sum + amount - limit, 0
    if needed <= 0 then return 0 end
    local names = {{}}
    for second = seen.first, math.floor(seen.now / SECOND) do
        names[#names + 1] = second
        names[#names + 1] = 'l' .. second
    end
    local held = redis.call('HMGET', seen.name, unpack(names))
    for place = 1, #held, 2 do
        if held[place] then
            needed = needed - held[place]
            found = held[place + 1] + MINUTE - seen.now
            if needed <= 0 then break end
        end
    end
    return found
end

local function add(seen, amount)
    local second = math.floor(seen.now / SECOND)
    local counted = redis.call('HGET', seen.name, second) or 0
    seen.sum, seen.newest = seen.sum + amount, seen.now
    redis.call('HSET', seen.name, 'sum', seen.sum, 'first', seen.first, 'newest', seen.now,
        second, counted + amount, 'l' .. second, seen.now)
    redis.call('PEXPIRE', seen.name, MINUTE)
end

local function take(place, parts, answer)
    local all, fits = {{}}, true
    for part = 1, parts do
        local seen = look(KEYS[tonumber(ARGV[place])])
        seen.amount = tonumber(ARGV[place + 1])
        seen.wait = wait(seen, seen.amount, tonumber(ARGV[place + 2]))
        fits = fits and seen.wait == 0
        all[part], place = seen, place + 3
    end
    for _, seen in ipairs(all) do
        if fits then add(seen, seen.amount) end
        answer[#answer + 1] = seen.sum
        answer[#answer + 1] = seen.wait
        answer[#answer + 1] = math.max(0, seen.newest + MINUTE - seen.now)
    end
    answer[1] = fits and math.floor(all[1].now / SECOND) or 0
    return place
end

local function change(name, second, amount)
    local found = redis.call('HMGET', name, 'sum', second)
    if not found[2] then return end
    local changed = math.max(0, found[2] + amount)
    redis.call('HSET', name, 'sum', found[1] + changed - found[2], second, changed)
end

local answers, place = {{}}, 2
while ARGV[place] do
    local parts, answer = tonumber(ARGV[place]), {{0}}
    if parts > 0 then
        place = take(place + 1, parts, answer)
    else
        change(KEYS[tonumber(ARGV[place + 1])], ARGV[place + 2], tonumber(ARGV[place + 3]))
        place = place + 4
    end
    answers[#answers + 1] = answer
end
return answers
"""


@dataclass(frozen=True)
class Place:
    """Where and when something was counted: in that ``second``, in Redis or by this gateway."""

    second: int
    here: bool


@dataclass(frozen=True)
class Taken:
    """How each name stands; ``place`` None: nothing was counted, one of them did not fit."""

    counted: list[Counted]
    place: Place | None


@dataclass(frozen=True)
class _Wanted:
    """To be counted if all of it fits."""

    amounts: Sequence[Amount]
    taken: "asyncio.Future[Taken]"


@dataclass(frozen=True)
class _Change:
    """To be put right."""

    name: str
    amount: int
    second: int


class Counters:
    """What is asked for while Redis is being asked goes there together, in one message: of 64
    requests at once each would else wait for 63 others. On one event loop.

    ``clock`` in seconds stands in for that of Redis."""

    def __init__(self, redis: Redis, clock: Callable[[], float] | None = None) -> None:
        self._script = redis.register_script(_SCRIPT)
        self._clock = clock
        self._waiting: list[_Wanted | _Change] = []
        self._sender: asyncio.Task[None] | None = None
        self._local: OrderedDict[str, Minute] = OrderedDict()
        # Whether Redis counted when it was asked last.
        self.shared = True
        self._asked_again = 0.0

    async def take(self, amounts: Sequence[Amount]) -> Taken:
        """Count all of them, or none where one does not fit; after all that was asked for before.
        Each in no more than its limit."""
        taken: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._send(_Wanted(amounts, taken))
        return await taken

    def change(self, name: str, amount: int, place: Place) -> None:
        """Put right what was counted there. Nobody waits for it."""
        if place.here:
            if (minute := self._local.get(name)) is not None:
                minute.change(place.second, amount)
        else:
            self._send(_Change(name, amount, place.second))

    def _send(self, asked: _Wanted | _Change) -> None:
        self._waiting.append(asked)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                together = self._waiting[:_MAX_TOGETHER]
                del self._waiting[:_MAX_TOGETHER]
                await self._send_together(together)
        finally:
            self._sender = None

    async def _send_together(self, together: list[_Wanted | _Change]) -> None:
        try:
            answers = await self._answers(together)
        except Exception as error:
            # Nobody may wait for ever because of what nobody foresaw.
            for asked in together:
                if isinstance(asked, _Wanted) and not asked.taken.done():
                    asked.taken.set_exception(error)
            return
        for asked, answer in zip(together, answers, strict=True):
            if isinstance(asked, _Wanted) and answer is not None and not asked.taken.done():
                asked.taken.set_result(answer)

    async def _answers(self, together: list[_Wanted | _Change]) -> list[Taken | None]:
        """To each what Redis said or, where it is away, what is counted here."""
        if time.monotonic() >= self._asked_again:
            try:
                async with asyncio.timeout(REDIS_SECONDS):
                    said = await self._script(*self._message(together))
            except (RedisError, OSError) as error:
                if self.shared:
                    log.warning("Limits are counted by this gateway alone: %s", error)
                self.shared = False
                self._asked_again = time.monotonic() + PAUSE_SECONDS
            else:
                self.shared = True
                return [_read(asked, answer) for asked, answer in zip(together, said, strict=True)]
        return [self._take_here(asked) for asked in together]

    def _message(self, together: list[_Wanted | _Change]) -> tuple[list[str], list[str | int]]:
        keys: list[str] = []
        numbers: list[str | int] = ["" if self._clock is None else int(self._clock() * 1000)]
        for asked in together:
            if isinstance(asked, _Change):
                keys.append(asked.name)
                numbers += [0, len(keys), asked.second, asked.amount]
            else:
                numbers.append(len(asked.amounts))
                for wanted in asked.amounts:
                    keys.append(wanted.name)
                    numbers += [len(keys), wanted.amount, wanted.limit]
        return keys, numbers

    def _take_here(self, asked: _Wanted | _Change) -> Taken | None:
        """(What Redis counted is not put right while it is away; it is forgotten soon.)"""
        if isinstance(asked, _Change):
            return None
        now = int((self._clock or time.monotonic)() * 1000)
        minutes = [self._local.setdefault(wanted.name, Minute()) for wanted in asked.amounts]
        for wanted in asked.amounts:
            self._local.move_to_end(wanted.name)
        while len(self._local) > _MAX_LOCAL:
            self._local.popitem(last=False)
        counted = take(minutes, asked.amounts, now)
        fits = not any(one.wait for one in counted)
        return Taken(counted, Place(minutes[0].newest // SECOND, here=True) if fits else None)


def _read(asked: _Wanted | _Change, said: list[int]) -> Taken | None:
    if isinstance(asked, _Change):
        return None
    second, *numbers = said
    counted = [Counted(*numbers[place : place + 3]) for place in range(0, len(numbers), 3)]
    return Taken(counted, Place(second, here=False) if second else None)
