"""Looks at a stack ten times a second: which children live, where each run stands, who is silent.

What it may conclude from a look stands in `tests.chaos.invariants`; this only writes down.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import redis

from shared.event_stream import STREAM, parse
from tests.chaos.processes import start_time
from tests.chaos.stages import Stages, Tail
from tests.valkey import Valkey

PERIOD = 0.1


@dataclass(frozen=True)
class Child:
    """A training child as it introduced itself: ``device run:attempt``."""

    pid: int
    started: int
    device: str
    run_id: str
    attempt: int


@dataclass(frozen=True)
class Seen:
    """Where a run stood at a moment."""

    time: float
    run_id: str
    status: str
    attempt: int


@dataclass
class Observations:
    """``together``: children that were alive at once; ``seen``: each change of a run's state;
    ``silences``: the longest that each attempt was ``running`` unheard while all could speak."""

    together: set[frozenset[Child]] = field(default_factory=set)
    seen: list[Seen] = field(default_factory=list)
    silences: dict[tuple[str, int], float] = field(default_factory=dict)


class Monitor:
    """A thread of looks, from `start` to `stop`."""

    def __init__(
        self,
        *,
        stages: Stages,
        database: Path,
        valkey: Valkey,
        listening: Callable[[], bool],
    ) -> None:
        self.observations = Observations()
        self._passed = Tail(stages.folder / "passed.jsonl")
        self._database = database
        self._valkey = valkey
        self._listening = listening
        self._children: dict[int, Child] = {}
        self._last: dict[str, tuple[str, int]] = {}
        self._heard: dict[tuple[str, int], float] = {}
        self._all_well_since = time.monotonic()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._loop, args=(look,), daemon=True)
            for look in (self._look_at_children, self._look_at_runs, self._listen)
        ]
        self.problem: BaseException | None = None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(30)

    def _loop(self, look: Callable[[], None]) -> None:
        while not self._ended.wait(PERIOD):
            try:
                look()
            except Exception as error:
                self.problem = error
                raise

    def living_children(self) -> list[int]:
        self._look_at_children()
        with self._lock:
            return sorted(self._children)

    def _look_at_children(self) -> None:
        with self._lock:
            for line in self._passed.more():
                if line["stage"] == "child_started":
                    self._introduce(int(line["pid"]), str(line["about"]))
            self._children = {
                pid: child
                for pid, child in self._children.items()
                if start_time(pid) == child.started
            }
            if len(self._children) > 1:
                self.observations.together.add(frozenset(self._children.values()))

    def _introduce(self, pid: int, about: str) -> None:
        device, _, job_id = about.partition(" ")
        run_id, _, attempt = job_id.rpartition(":")
        if (started := start_time(pid)) is not None:
            self._children[pid] = Child(pid, started, device, run_id, int(attempt))

    def _look_at_runs(self) -> None:
        if not self._listening():
            self._all_well_since = time.monotonic()
        for run_id, status, attempt in self._states():
            now = time.monotonic()
            if self._last.get(run_id) != (status, attempt):
                self._last[run_id] = (status, attempt)
                self._heard[run_id, attempt] = now
                self.observations.seen.append(Seen(now, run_id, status, attempt))
            if status == "running":
                silence = now - max(self._heard[run_id, attempt], self._all_well_since)
                longest = self.observations.silences
                longest[run_id, attempt] = max(longest.get((run_id, attempt), 0), silence)

    def _states(self) -> list[tuple[str, str, int]]:
        """Nothing where the database cannot be read just now."""
        with contextlib.suppress(sqlite3.Error):
            place = f"file:{self._database}?mode=ro"
            with contextlib.closing(sqlite3.connect(place, uri=True, timeout=1)) as connection:
                return connection.execute("SELECT id, status, attempt FROM runs").fetchall()
        return []

    def _listen(self) -> None:
        """The event stream, for signs of life; from its start whenever Redis comes back."""
        last = "0-0"
        with contextlib.closing(self._valkey.client()) as client:
            while not self._ended.is_set():
                try:
                    answer = client.xread({STREAM: last}, count=500, block=200)
                except (redis.RedisError, OSError):
                    self._all_well_since = time.monotonic()
                    return
                if not answer:
                    self._forget_if_emptied(client)
                    last = self._end_of(client, last)
                for entry_id, fields in answer[0][1] if answer else ():
                    last = entry_id.decode()
                    if (event := parse(fields)) is not None:
                        self._heard[event.run_id, event.attempt] = _moment(last)

    def _forget_if_emptied(self, client: "redis.Redis") -> None:
        with contextlib.suppress(redis.RedisError, OSError):
            if not client.exists(STREAM):
                self._all_well_since = time.monotonic()

    def _end_of(self, client: "redis.Redis", last: str) -> str:
        """``last``, or the start where the stream was emptied and began anew."""
        with contextlib.suppress(redis.RedisError, OSError):
            return last if client.xrange(STREAM, last, last) else "0-0"
        return last


def _moment(stream_id: str) -> float:
    """When an entry was written, on the monotonic clock: reading it late makes it no younger."""
    age = time.time() - int(stream_id.partition("-")[0]) / 1000
    return time.monotonic() - age
