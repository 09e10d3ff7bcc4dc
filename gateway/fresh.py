"""What was read from the database a moment ago, for requests that come many a second."""

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
    and after a second in any case. None is never kept: what is not there may come."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._clock = database, clock
        self._kept: OrderedDict[Hashable, tuple[Value, int, float]] = OrderedDict()

    async def get(self, key: Hashable, load: Callable[[], Value | None]) -> Value | None:
        """The value of ``key``; ``load`` reads it, in a thread, where it is not known."""
        kept = self._kept.get(key)
        if kept is not None:
            value, writes, moment = kept
            if writes == self._database.writes and self._clock() < moment + SECONDS:
                return value
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
