"""A run attempt's events: numbered, on disk first, then on the stream; knows no child process."""

import asyncio
import logging
import os
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import event_stream
from shared.chaos import stage
from shared.run_events import Checkpointed, Finished, Payload, RunEvent

log = logging.getLogger(__name__)


class EventLog:
    """The file ``events.jsonl`` and what of it has still to be published, in order.

    A restarted attempt goes on after its last number; all its events are published again, which
    readers take for what they are: known already.
    """

    def __init__(self, path: Path, *, run_id: str, attempt: int) -> None:
        self.path = path
        self.run_id = run_id
        self.attempt = attempt
        self.pending: deque[RunEvent] = deque()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.pending.extend(self.written())
        except OSError as error:
            # What cannot be written down can still be published: why the run failed, above all.
            log.error("%s cannot be used: %s", path, error)
        self.last_seq = self.pending[-1].seq if self.pending else 0
        self.last_published: str | None = None
        # An entry that was there at the last look: newer ones would also be found in a stream
        # that was emptied a moment before they came.
        self.anchor: str | None = None
        self.reachable = True
        self._publishing = asyncio.Lock()

    def written(self) -> list[RunEvent]:
        """This attempt's events on disk."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        events = []
        for line in lines:
            try:
                event = RunEvent.model_validate_json(line)
            except ValidationError:
                # A line that a killed worker or a full disk cut short.
                continue
            if event.attempt == self.attempt and event.run_id == self.run_id:
                events.append(event)
        return events

    def add(self, payload: Payload) -> None:
        """Number ``payload``, queue it for the stream and append it to the file. OSError where
        that cannot be written: the stream gets it all the same."""
        self.last_seq += 1
        event = RunEvent(
            run_id=self.run_id,
            attempt=self.attempt,
            seq=self.last_seq,
            time=datetime.now(UTC),
            payload=payload,
        )
        self.pending.append(event)
        self._write(event)
        stage("event_written", payload.type)

    def _write(self, event: RunEvent) -> None:
        line = event.model_dump_json().encode() + b"\n"
        with self.path.open("a+b") as file:
            # What a killed worker or a full disk cut short is closed, never cut off: a worker that
            # was frozen may be writing there, too.
            file.write(line if _ends_whole(file) else b"\n" + line)
            if isinstance(event.payload, Finished | Checkpointed):
                file.flush()
                os.fsync(file.fileno())

    async def publish(self, redis: Redis) -> bool:
        """Send what is pending, in order; False where Redis could not be reached."""
        async with self._publishing:
            try:
                while self.pending:
                    self.last_published = await event_stream.publish(redis, self.pending[0])
                    self.pending.popleft()
            except (OSError, RedisError) as error:
                if self.reachable:
                    log.warning("Events of %s wait for Redis: %s", self.run_id, error)
                self.reachable = False
                return False
            self.reachable = True
            return True

    async def publish_again_if_lost(self, redis: Redis) -> None:
        """After Redis was emptied: everything that this attempt ever said, again."""
        try:
            lost = self.anchor is not None and not await event_stream.holds(redis, self.anchor)
        except (OSError, RedisError):
            return
        if lost:
            log.warning("Redis lost the events of %s; publishing them again.", self.run_id)
            async with self._publishing:
                self.pending = deque(self.written())
        if await self.publish(redis):
            self.anchor = self.last_published


def _ends_whole(file: IO[bytes]) -> bool:
    """Whether the last line has its end."""
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
