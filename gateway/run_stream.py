"""A run's events as a stream that can be left and taken up again; knows no HTTP."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import tuple_
from sqlmodel import col, select

from gateway.database import Database
from gateway.run_story import lines_of
from gateway.run_views import LogLine, get_run
from gateway.services import Services
from gateway.tables import RunEventRow
from shared.errors import NotFound

# Event types that a stream passes on as they are. Each event may tell a line of the log, and
# change the run's state.
PASSED_ON = ("metrics", "sample", "checkpoint")
BATCH = 500
_LINE: TypeAdapter[LogLine] = TypeAdapter(LogLine)


@dataclass(frozen=True)
class StreamItem:
    """One event of a run's stream; ``id`` is where a reader may go on later."""

    event: str
    data: dict[str, Any]
    id: str | None


def events_after(
    *, database: Database, run_id: str, place: tuple[int, int], limit: int = BATCH
) -> list[RunEventRow]:
    """The run's events behind ``place``, which is an attempt and a seq."""
    here = tuple_(col(RunEventRow.attempt), col(RunEventRow.seq))
    query = select(RunEventRow).where(RunEventRow.run_id == run_id, here > tuple_(*place))
    query = query.order_by(col(RunEventRow.attempt), col(RunEventRow.seq)).limit(limit)
    with database.read() as session:
        return list(session.exec(query).all())


def place_of(*, database: Database, run_id: str, stream_id: str | None) -> tuple[int, int]:
    """Where an event of that stream id stands; the start for one that nobody knows."""
    if not stream_id:
        return (0, 0)
    query = select(RunEventRow).where(
        RunEventRow.run_id == run_id, RunEventRow.stream_id == stream_id[:100]
    )
    with database.read() as session:
        row = session.exec(query).first()
    return (row.attempt, row.seq) if row else (0, 0)


async def follow_run(
    *, services: Services, owner: str, run_id: str, last_id: str | None
) -> AsyncIterator[StreamItem]:
    """The run's whole state first, then what follows ``last_id`` and every change, up to the end.

    No database session is open while the reader takes its time.
    """
    database = services.database
    async with services.feed.subscribe(run_id) as wakeups:
        state = await asyncio.to_thread(get_run, database=database, owner=owner, run_id=run_id)
        place = await asyncio.to_thread(
            place_of, database=database, run_id=run_id, stream_id=last_id
        )
        sent_id = last_id if place != (0, 0) else None
        sent = state
        yield StreamItem("state", state.model_dump(mode="json"), sent_id)
        async for _ in wakeups:
            # The state is read before the events: at the end, all events were there before it.
            try:
                state = await asyncio.to_thread(
                    get_run, database=database, owner=owner, run_id=run_id
                )
            except NotFound:
                return
            while rows := await asyncio.to_thread(
                events_after, database=database, run_id=run_id, place=place
            ):
                for row in rows:
                    place, sent_id = (row.attempt, row.seq), row.stream_id
                    if row.type in PASSED_ON:
                        yield StreamItem(row.type, _data(row), sent_id)
                    for line in lines_of(row):
                        yield StreamItem("log", _told(line), sent_id)
            if state != sent or state.is_terminal:
                sent = state
                yield StreamItem("state", state.model_dump(mode="json"), sent_id)
            if state.is_terminal:
                return


def _data(row: RunEventRow) -> dict[str, Any]:
    payload = {name: value for name, value in row.payload.items() if name != "type"}
    return {"time": row.time.isoformat(), "attempt": row.attempt} | payload


def _told(line: LogLine) -> dict[str, Any]:
    told: dict[str, Any] = _LINE.dump_python(line, mode="json")
    return told
