"""Forgets requests that are older than may be kept."""

import asyncio
from datetime import timedelta

from sqlmodel import col, delete, select

from gateway.database import Database
from gateway.services import Services
from gateway.tables import LoggedRequest, now

SWEEP_SECONDS = 600.0
# A delete holds SQLite's write lock: short ones let others in between.
AT_ONCE = 2000


async def forget_old_requests(services: Services) -> None:
    days = services.settings.request_log_days
    while True:
        while await asyncio.to_thread(forget, database=services.database, days=days):
            await asyncio.sleep(0)
        await asyncio.sleep(SWEEP_SECONDS)


def forget(*, database: Database, days: float) -> int:
    """How many were older, of those that were forgotten now; 0 when none is left."""
    old = (
        select(LoggedRequest.id)
        .where(col(LoggedRequest.created_at) < now() - timedelta(days=days))
        .limit(AT_ONCE)
    )
    with database.write_unnoticed() as session:
        ids = session.exec(old).all()
        if ids:
            session.exec(delete(LoggedRequest).where(col(LoggedRequest.id).in_(ids)))
    return len(ids)
