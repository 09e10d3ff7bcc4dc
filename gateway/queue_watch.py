"""What is seen of the queue in each sweep, noted where it changed; and why a run waits."""

import asyncio
from datetime import UTC, datetime

from sqlmodel import Session

from gateway.database import Database
from gateway.run_queue import REDIS_ERRORS, REDIS_SECONDS
from gateway.services import Services
from gateway.tables import QueueSight, now

RUNS = "runs"


async def look_at_queue(services: Services) -> None:
    """Count the workers that take runs. Where Redis does not say, that is noted, and raised: it
    may refuse what it is asked."""
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            workers = await services.queue.listeners()
    except REDIS_ERRORS:
        await asyncio.to_thread(note_sight, services.database, reachable=False, workers=0)
        raise
    await asyncio.to_thread(note_sight, services.database, reachable=True, workers=workers)


def note_sight(database: Database, *, reachable: bool, workers: int) -> None:
    with database.read() as session:
        seen = session.get(QueueSight, RUNS)
    if seen is not None and (seen.reachable, seen.workers) == (reachable, workers):
        return
    with database.write() as session:
        session.merge(
            QueueSight(queue=RUNS, reachable=reachable, workers=workers, changed_at=now())
        )


def why_it_waits(session: Session, position: int) -> str:
    """A sentence for the owner of the run at this place in the queue."""
    seen = session.get(QueueSight, RUNS)
    if seen is not None and not seen.reachable:
        return "Redis cannot be reached; the run is handed out as soon as it is back."
    if seen is not None and seen.workers == 0:
        return f"No worker is listening{_since(seen.changed_at)}. Start the trainer service."
    if position > 1:
        others = "one run" if position == 2 else f"{position - 1} runs"
        return f"Number {position} in the queue: {others} will be taken before it."
    return "Next in the queue: it starts when a worker is free."


def _since(time: datetime) -> str:
    return f" since {time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
