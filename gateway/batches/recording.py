"""Writes the answers of a batch down as they come, each once; makes files of them at the end."""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from itertools import islice

from sqlalchemy import insert
from sqlmodel import Session, col, delete, select

from gateway.batches import files
from gateway.batches.answers import Answered
from gateway.batches.leases import Lease
from gateway.tables import Batch, BatchAnswer, now
from shared.storage import Storage

_ROWS_AT_ONCE = 500
_PAUSE_SECONDS = 0.03


class Recorder:
    """Answers that come while others are being written go together into the next transaction."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._waiting: list[Answered] = []
        self._writing = asyncio.Lock()

    async def add(self, answered: Answered) -> None:
        """Returns when the answer is stored."""
        self._waiting.append(answered)
        async with self._writing:
            several, self._waiting = self._waiting, []
            if several:
                await _to_its_end(asyncio.to_thread(record, self._lease, several))


async def _to_its_end(writing: Awaitable[None]) -> None:
    """A thread cannot be cancelled: who was, waits until all see what it has written."""
    task = asyncio.ensure_future(writing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def record(lease: Lease, several: Sequence[Answered]) -> None:
    """Store answers, and what the batch says of their number, in one transaction."""
    with lease.writing() as (session, batch):
        rows = [
            {"batch_id": batch.id, "line": one.line, "failed": one.failed, "content": one.content}
            for one in several
        ]
        session.execute(insert(BatchAnswer), rows)
        batch.failed += sum(one.failed for one in several)
        batch.completed += sum(not one.failed for one in several)
        batch.input_tokens += sum(one.input_tokens for one in several)
        batch.output_tokens += sum(one.output_tokens for one in several)


def record_many(lease: Lease, answers: Iterable[Answered]) -> None:
    """The same for up to 50,000 of them. SQLite has whoever waits look again from time to time:
    without pauses nobody else would write until the end."""
    waiting = iter(answers)
    while several := list(islice(waiting, _ROWS_AT_ONCE)):
        record(lease, several)
        time.sleep(_PAUSE_SECONDS)


def answered_lines(lease: Lease) -> set[int]:
    with lease.database.read() as session:
        query = select(BatchAnswer.line).where(BatchAnswer.batch_id == lease.batch_id)
        return set(session.exec(query).all())


def finish(lease: Lease, storage: Storage, status: str) -> None:
    """Make files of the answers and end the batch as ``status``. Done again after a crash, it
    writes the same."""
    batch = lease.read()
    made = {
        word: files.write_output(
            database=lease.database,
            storage=storage,
            owner=batch.owner,
            filename=f"{batch.id}_{word}.jsonl",
            lines=_contents(lease, failed=failed),
        )
        for word, failed in (("output", False), ("error", True))
        if _has(lease, failed=failed)
    }
    with lease.writing() as (session, batch):
        for file in made.values():
            files.complete_output(session, file, batch.output_seconds)
        batch.output_file_id = made["output"].id if "output" in made else None
        batch.error_file_id = made["error"].id if "error" in made else None
        end(session, batch, status)


def end(session: Session, batch: Batch, status: str) -> None:
    """The last state of a batch; nobody works on it any more."""
    batch.status = status
    setattr(batch, f"{status}_at", now())
    batch.lease_holder = batch.lease_until = None
    session.exec(delete(BatchAnswer).where(col(BatchAnswer.batch_id) == batch.id))


def _has(lease: Lease, *, failed: bool) -> bool:
    with lease.database.read() as session:
        query = select(BatchAnswer.line).where(
            BatchAnswer.batch_id == lease.batch_id, BatchAnswer.failed == failed
        )
        return session.exec(query.limit(1)).first() is not None


def _contents(lease: Lease, *, failed: bool) -> Iterator[str]:
    """In the order of the requests, a few at a time."""
    line = -1
    while True:
        query = (
            select(BatchAnswer)
            .where(
                BatchAnswer.batch_id == lease.batch_id,
                BatchAnswer.failed == failed,
                col(BatchAnswer.line) > line,
            )
            .order_by(col(BatchAnswer.line))
            .limit(_ROWS_AT_ONCE)
        )
        with lease.database.read() as session:
            several = session.exec(query).all()
        if not several:
            return
        for answer in several:
            yield answer.content
        line = several[-1].line
