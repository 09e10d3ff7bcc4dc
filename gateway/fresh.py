"""What was read from the database a moment ago, for requests that come many a second."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

from gateway.database import Database

Value = TypeVar("Value")

# After this what another process has written is seen.
SECONDS = 1.0
MOST = 10_000


class Fresh(Generic[Value]):
    """Values by key. One is forgotten with the next write of this process, whatever it is about,
    and after a second in any case. None is never kept: what is not there may come. On one event
    loop."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._clock = database, clock
        self._kept: OrderedDict[Hashable, tuple[Value, int, float]] = OrderedDict()
        # Those who come while a value is being read wait for it, if nothing was written since.
        self._being_read: dict[tuple[Hashable, int], asyncio.Task[Value | None]] = {}

    async def get(self, key: Hashable, load: Callable[[], Value | None]) -> Value | None:
        """The value of ``key``; ``load`` reads it, in a thread, where it is not known."""
        kept = self._kept.get(key)
        if kept is not None:
            value, writes, moment = kept
            if writes == self._database.writes and self._clock() < moment + SECONDS:
                return value
        reading = (key, self._database.writes)
        task = self._being_read.get(reading)
        if task is None:
            task = asyncio.create_task(self._read(key, load))
            self._being_read[reading] = task
            task.add_done_callback(lambda _: self._being_read.pop(reading, None))
        # Whoever leaves must not take it away from the others.
        return await asyncio.shield(task)

    async def _read(self, key: Hashable, load: Callable[[], Value | None]) -> Value | None:
        # Before it is read: a write meanwhile makes it old at once.
        writes, moment = self._database.writes, self._clock()
        found = await run_in_threadpool(load)
        if found is None:
            self._kept.pop(key, None)
        else:
            self._kept[key] = (found, writes, moment)
            self._kept.move_to_end(key)
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)
        return found
