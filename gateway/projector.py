"""Folds the workers' events into the database: the one reader of the event stream. Knows no HTTP.

The position in the stream is kept in the transaction of what was written for it, and every step
can be repeated without harm: a gateway that dies anywhere goes on where it was.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sqlmodel import Session

from gateway.cancellation import raise_if_cancelled
from gateway.database import Database
from gateway.model_names import fine_tuned_model
from gateway.run_checkpoints import write_checkpoints
from gateway.run_queue import REDIS_ERRORS, enqueue_run
from gateway.run_states import StaleState, cancelled, note, paused, state_of, write_state
from gateway.services import Services
from gateway.tables import MetricRow, Run, RunEventRow, StreamPosition
from shared import event_stream
from shared.run_events import Beat, Finished, Measured, RunEvent, RunState, apply_event
from shared.runs import TERMINAL
from shared.storage import MANIFEST, Storage, sha256_of

log = logging.getLogger(__name__)

READER = "projector"
START = "0-0"
BLOCK_MS = 1000
# A Redis that accepts and never answers is as good as none.
READ_SECONDS = 10.0
BACK_OFF_SECONDS = (0.2, 0.5, 1.0, 2.0)
_MAX_REMEMBERED = 10_000

Entry = tuple[str, RunEvent | None]


@dataclass
class Applied:
    """What a batch of events changed."""

    heard: set[tuple[str, int]] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    requeued: set[str] = field(default_factory=set)


async def run_projector(services: Services) -> None:
    """Project for ever; a Redis or a database that is away is waited for."""
    projection = Projection(services.database, services.storage)
    failures = 0
    while True:
        raise_if_cancelled()
        try:
            await _project(services, projection)
            if failures:
                # Of what was wished meanwhile Redis knows nothing yet.
                services.feed.sweep_wanted.set()
            failures = 0
        except (*REDIS_ERRORS, SQLAlchemyError, StaleState) as error:
            if failures == 0:
                log.warning("Run events wait: %s", str(error).splitlines()[:1] or type(error))
            await asyncio.sleep(BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)])
            failures += 1


async def _project(services: Services, projection: "Projection") -> None:
    """Read one batch of events and pass on what it changed."""
    async with asyncio.timeout(READ_SECONDS):
        position = await start_of(services.redis, await asyncio.to_thread(projection.position))
        entries = await event_stream.read(services.redis, after=position, block_ms=BLOCK_MS)
    if entries:
        applied = await asyncio.to_thread(projection.apply_what_can_be, entries)
        for run_id, attempt in applied.heard:
            services.feed.heard(run_id, attempt)
        for run_id in applied.changed:
            services.feed.notify(run_id)
        for run_id in applied.requeued:
            await enqueue_run(services=services, run_id=run_id)
    services.feed.listening()


async def start_of(redis: Redis, position: str) -> str:
    """``position``, or the stream's start where the stream ends before it: Redis was emptied, and
    its clock was set back. To read everything once more does no harm."""
    if position == START:
        return START
    try:
        info: dict[str, Any] = await redis.xinfo_stream(event_stream.STREAM)
    except ResponseError:
        return START  # There is no stream: nothing was written since Redis was emptied.
    last: bytes | str = info["last-generated-id"]
    last = last.decode() if isinstance(last, bytes) else last
    return START if _key(last) < _key(position) else position


def _key(stream_id: str) -> tuple[int, int]:
    milliseconds, _, number = stream_id.partition("-")
    return int(milliseconds), int(number)


class Projection:
    """The part that writes. It remembers what it complained of, to say everything only once."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        self._complaints: set[str] = set()

    def position(self) -> str:
        with self._database.read() as session:
            row = session.get(StreamPosition, READER)
        return row.stream_id if row else START

    def apply_what_can_be(self, entries: list[Entry]) -> Applied:
        """`apply`, but an entry that the database refuses does not hold up the others."""
        try:
            return self.apply(entries)
        except (IntegrityError, DataError) as error:
            if len(entries) == 1:
                self._complain(f"refused {entries[0][0]}", f"An event cannot be stored: {error}")
                return self.apply([(entries[0][0], None)])
        parts = [self.apply_what_can_be([entry]) for entry in entries]
        return Applied(
            heard=set().union(*(part.heard for part in parts)),
            changed=set().union(*(part.changed for part in parts)),
            requeued=set().union(*(part.requeued for part in parts)),
        )

    def apply(self, entries: list[Entry]) -> Applied:
        """Write a batch and the position behind it in one transaction."""
        checked = [(stream_id, self._verified(event)) for stream_id, event in entries]
        applied = Applied()
        with self._database.write() as session:
            runs: dict[str, tuple[Run, RunState, RunState]] = {}
            for stream_id, event in checked:
                if event is None:
                    self._complain("garbage", "An entry of the event stream is no event.")
                else:
                    self._fold(session, runs, stream_id, event, applied)
            for run, before, after in runs.values():
                self._write(session, run, before, after, applied)
            session.merge(StreamPosition(reader=READER, stream_id=entries[-1][0]))
        return applied

    def _verified(self, event: RunEvent | None) -> RunEvent | None:
        """A success whose result is not what the worker says it is turns into a failure."""
        if event is None or not isinstance(event.payload, Finished):
            return event
        finished = event.payload
        if finished.status != "succeeded":
            return event
        try:
            manifest = self._storage.run_result(event.run_id) / MANIFEST
            if sha256_of(manifest) == finished.manifest_sha256:
                return event
            problem = "does not match what the worker reported"
        except (OSError, ValueError):
            problem = "is missing"
        failed = Finished(
            status="failed",
            code="result_damaged",
            message=f"The training ended, but the manifest of its result {problem}.",
            retry=True,
        )
        return event.model_copy(update={"payload": failed})

    def _fold(
        self,
        session: Session,
        runs: dict[str, tuple[Run, RunState, RunState]],
        stream_id: str,
        event: RunEvent,
        applied: Applied,
    ) -> None:
        if event.run_id not in runs:
            run = session.get(Run, event.run_id, with_for_update=True)
            if run is None:
                self._complain(event.run_id, f"Events came of an unknown run {event.run_id!r}.")
                return
            runs[event.run_id] = (run, state_of(run), state_of(run))
        run, before, state = runs[event.run_id]
        if event.attempt != state.attempt or state.status in TERMINAL:
            self._complain(
                f"{event.run_id}:{event.attempt}",
                f"Events of attempt {event.attempt} of run {event.run_id} are refused: it is "
                f"{state.status} at attempt {state.attempt}.",
            )
            return
        applied.heard.add((event.run_id, event.attempt))
        if isinstance(event.payload, Measured):
            _write_metrics(session, event.run_id, event.payload)
        if event.seq > state.last_seq:
            write_checkpoints(session, event)
        if not isinstance(event.payload, Beat):
            _insert_if_absent(session, stream_id, event, known=event.seq <= state.last_seq)
            applied.changed.add(event.run_id)
        runs[event.run_id] = (run, before, apply_event(state, event))

    def _write(
        self, session: Session, run: Run, before: RunState, after: RunState, applied: Applied
    ) -> None:
        others: dict[str, Any] = {}
        if after.status == "queued" and after.attempt != before.attempt:
            if run.cancel_requested_at is not None:
                after = cancelled(after)
            elif run.pause_requested_at is not None:
                after = paused(after).model_copy(update={"attempt": before.attempt})
            else:
                applied.requeued.add(run.id)
                note(session, run.id, after.attempt, _why_again(before, after))
        if after.status == "paused" and run.cancel_requested_at is not None:
            after = cancelled(after)
        if after.status == "succeeded" and before.status != "succeeded":
            others["fine_tuned_model"] = fine_tuned_model(run)
        if not write_state(session, run.id, before, after, **others):
            raise StaleState(f"Run {run.id} changed meanwhile; its events are read once more.")

    def _complain(self, about: str, sentence: str) -> None:
        if about not in self._complaints and len(self._complaints) < _MAX_REMEMBERED:
            self._complaints.add(about)
            log.warning("%s", sentence)


def _why_again(before: RunState, after: RunState) -> str:
    reason = "failed" if after.failures > before.failures else "was stopped from outside"
    return f"Attempt {before.attempt} {reason}; the run waits for attempt {after.attempt}."


def _insert_if_absent(session: Session, stream_id: str, event: RunEvent, *, known: bool) -> None:
    """Keep an event; only one that is ``known`` by its number can be there already."""
    key = (event.run_id, event.attempt, event.seq)
    if known and session.get(RunEventRow, key) is not None:
        return
    session.add(
        RunEventRow(
            run_id=event.run_id,
            attempt=event.attempt,
            seq=event.seq,
            stream_id=stream_id,
            type=event.payload.type,
            time=event.time,
            payload=event.payload.model_dump(mode="json"),
        )
    )
    session.flush()


def _write_metrics(session: Session, run_id: str, measured: Measured) -> None:
    """One row a step: what a step's loss and its evaluation say comes together in it."""
    row = session.get(MetricRow, (run_id, measured.step))
    if row is None:
        row = MetricRow(run_id=run_id, step=measured.step, epoch=measured.epoch)
    known = measured.model_dump(
        exclude_none=True, exclude={"type", "step", "total_steps", "eta_seconds"}
    )
    for name, value in known.items():
        setattr(row, name, value)
    session.add(row)
