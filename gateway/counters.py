"""Counts of the last minute that all gateways share, in Redis and by its clock; where Redis is
away each gateway counts for itself, anew."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.minute import SECOND, Amount, Counted, Minute, take

log = logging.getLogger(__name__)

# Whoever asks a model waits for this.
REDIS_SECONDS = 1.0
# A Redis that did not answer is not waited for again by every request.
PAUSE_SECONDS = 2.0
_MAX_LOCAL = 10_000
_MAX_TOGETHER = 200

_SCRIPT = Path(__file__).with_name("minute.lua")


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
        self._script = redis.register_script(_SCRIPT.read_text())
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
