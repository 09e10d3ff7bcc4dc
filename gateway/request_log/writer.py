"""Writes the request log behind the requests' backs: many rows at once, in a thread.

A request never waits for it. What a gateway that is killed had not written yet is lost: half a
second's requests at most.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from gateway.completion_requests import Request
from gateway.database import Database
from gateway.model_telemetry import ModelTelemetry
from gateway.request_log.entries import Entry, Keeps, Origin, row_of
from gateway.tables import LoggedRequest

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5
ROWS_AT_ONCE = 500
# Where the database does not answer, so much is held; then the oldest are let go of.
MAX_WAITING = 10_000
MAX_WAITING_CHARACTERS = 64 * 1024 * 1024
_INSERT = LoggedRequest.__table__.insert()  # type: ignore[attr-defined]
_MORE: dict[Keeps, int] = {"none": 0, "metadata": 1, "content": 2}


class RequestLog:
    """``keeps``: at most so much of each request; ``masks``: without personal data."""

    def __init__(self, database: Database, *, keeps: Keeps = "content", masks: bool = True) -> None:
        self.keeps = keeps
        self.telemetry = ModelTelemetry()
        self._database, self._masks = database, masks
        # With what they hold in memory.
        self._waiting: deque[tuple[Entry, int]] = deque()
        self._characters = 0
        self._writing = asyncio.Lock()
        self.written = self.dropped = 0

    @property
    def waiting(self) -> int:
        """Requests that are not written yet."""
        return len(self._waiting)

    @contextlib.contextmanager
    def recorded(self, owner: str, request: Request, origin: Origin) -> Iterator[Entry]:
        """A request that has come to its end with the block."""
        with self.begun(owner, request, origin) as entry:
            yield entry
        self.add(entry)

    @contextlib.contextmanager
    def begun(self, owner: str, request: Request, origin: Origin) -> Iterator[Entry]:
        """A request that is not over with the block, unless the block raises."""
        if _MORE[self.keeps] < _MORE[origin.keeps]:
            origin = replace(origin, keeps=self.keeps)
        entry = Entry(owner, request, origin)
        try:
            yield entry
        except BaseException as error:
            entry.failed(error)
            self.add(entry)
            raise

    def add(self, entry: Entry) -> None:
        """Count a request that has come to its end, and keep it where that is wanted."""
        entry.seconds = entry.seconds or entry.passed()
        self.telemetry.ended(entry)
        # (What is not to be kept is read for its tokens, too.)
        size = entry.characters()
        self._waiting.append((entry, size))
        self._characters += size
        while len(self._waiting) > MAX_WAITING or self._characters > MAX_WAITING_CHARACTERS:
            self._characters -= self._waiting.popleft()[1]
            if not self.dropped:
                log.warning("The request log cannot keep up; requests are left out of it.")
            self.dropped += 1

    async def flush(self) -> None:
        """Write what waits; what cannot be written now stays."""
        async with self._writing:
            while self._waiting:
                batch = [
                    self._waiting.popleft() for _ in range(min(ROWS_AT_ONCE, len(self._waiting)))
                ]
                self._characters -= sum(size for _, size in batch)
                try:
                    await asyncio.to_thread(self._write, [entry for entry, _ in batch])
                except (OperationalError, NoConnectionFree, OSError) as error:
                    self._waiting.extendleft(reversed(batch))
                    self._characters += sum(size for _, size in batch)
                    log.warning("The request log could not be written: %s", type(error).__name__)
                    return
                self.written += sum(entry.origin.keeps != "none" for entry, _ in batch)

    async def run(self) -> None:
        """Write twice a second, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    def _write(self, batch: list[Entry]) -> None:
        try:
            self._insert(batch)
        except (OperationalError, NoConnectionFree, OSError):
            raise
        except Exception:
            # One of them must not keep the others, and those to come, out of the log.
            log.exception("Some requests could not be put into the log.")
            for entry in batch:
                with contextlib.suppress(ValueError, TypeError, AttributeError, SQLAlchemyError):
                    self._insert([entry])

    def _insert(self, batch: list[Entry]) -> None:
        rows = [row for entry in batch if (row := self._row(entry)) is not None]
        if not rows:
            return
        with self._database.write_unnoticed() as session:
            session.connection().execute(_INSERT, rows)

    def _row(self, entry: Entry) -> dict[str, Any] | None:
        """What is written of a request, if anything. Its answer has not been read before."""
        row = row_of(entry, masks=self._masks)
        self.telemetry.read(entry, row["prompt_tokens"], row["completion_tokens"])
        return None if entry.origin.keeps == "none" else row
