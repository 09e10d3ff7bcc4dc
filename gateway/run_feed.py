"""Who waits for news of a run, and when each run was last heard of; keeps nothing on disk.

The projector feeds it, event streams and the reconciler read it. All of it lives on one event
loop and on the monotonic clock: a wall clock that jumps loses no run.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from shared.errors import TooManyRequests

# Even without news a stream looks again this often: another gateway may have written.
IDLE_SECONDS = 5.0
# The projector reads every second; a longer gap means that it (or Redis, or we) stood still.
DEAF_SECONDS = 5.0


class Wakeups:
    """An iterator that goes on when there may be news: at once, and then until the feed closes.
    It goes on at most once in ``pause`` seconds, which its reader may change."""

    def __init__(self, *, closed: asyncio.Event, idle_seconds: float) -> None:
        self._closed = closed
        self._idle_seconds = idle_seconds
        self._news = asyncio.Event()
        self._news.set()
        self.pause = 0.0

    def wake(self) -> None:
        self._news.set()

    def __aiter__(self) -> "Wakeups":
        return self

    async def __anext__(self) -> None:
        await _wait(self._closed, self.pause)
        await _wait(self._news, self._idle_seconds)
        self._news.clear()
        if self._closed.is_set():
            raise StopAsyncIteration


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class RunFeed:
    """News of runs between the gateway's tasks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: defaultdict[str, set[Wakeups]] = defaultdict(set)
        self._streams: Counter[str] = Counter()
        self._heard: dict[tuple[str, int], float] = {}
        self._listened: float | None = None
        self._since = clock()
        self._closed = asyncio.Event()
        self.sweep_wanted = asyncio.Event()

    @asynccontextmanager
    async def subscribe(self, run_id: str) -> AsyncIterator[Wakeups]:
        """Wake-ups: now, and after something about the run changed (and every few seconds)."""
        wakeups = Wakeups(closed=self._closed, idle_seconds=IDLE_SECONDS)
        self._waiting[run_id].add(wakeups)
        try:
            yield wakeups
        finally:
            self._waiting[run_id].discard(wakeups)
            if not self._waiting[run_id]:
                del self._waiting[run_id]

    def close(self) -> None:
        """The gateway stops: whoever waits for news stops waiting."""
        self._closed.set()
        for run_id in self._waiting:
            self.notify(run_id)

    def notify(self, run_id: str) -> None:
        for wakeups in self._waiting.get(run_id, ()):
            wakeups.wake()

    @contextmanager
    def stream_slot(self, *, owner: str, limit: int) -> Iterator[None]:
        """One of the event streams that an owner may hold open."""
        if self._streams[owner] >= limit:
            raise TooManyRequests(
                f"{limit} event streams are open already; close one of them first.",
                retry_after=5,
            )
        self._streams[owner] += 1
        try:
            yield
        finally:
            self._streams[owner] -= 1
            if not self._streams[owner]:
                del self._streams[owner]

    def listening(self) -> None:
        """The projector has read the stream up to now."""
        now = self._clock()
        if self._listened is None or now - self._listened > DEAF_SECONDS:
            self._since = now
        self._listened = now

    def heard(self, run_id: str, attempt: int) -> None:
        self._heard[run_id, attempt] = self._clock()

    def silence(self, run_id: str, attempt: int) -> float | None:
        """Seconds without a sign of life, counted from the first time somebody asked; None while
        nobody listens to the stream: then no silence means anything."""
        now = self._clock()
        if self._listened is None or now - self._listened > DEAF_SECONDS:
            return None
        heard = self._heard.setdefault((run_id, attempt), now)
        return now - max(heard, self._since)

    def forget_all_but(self, live: Collection[tuple[str, int]]) -> None:
        self._heard = {key: heard for key, heard in self._heard.items() if key in live}
