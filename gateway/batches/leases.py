"""One gateway at a time works on a batch: who does holds a lease, and renews it. Each write asks
whether it is still held, so that one who was away for too long changes nothing."""

import secrets
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, or_, select

from gateway.batches.states import LIVE
from gateway.database import Database
from gateway.tables import Batch, now


class LeaseLost(Exception):
    """Somebody else works on the batch by now."""


@dataclass(frozen=True)
class Lease:
    """The right to work on a batch for ``seconds`` from its last renewal."""

    database: Database
    batch_id: str
    owner: str
    seconds: float
    holder: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    @contextmanager
    def writing(self) -> Iterator[tuple[Session, Batch]]:
        """A transaction that changes the batch, and renews the lease; `LeaseLost` where that is
        not ours to do. (Nobody remembers batches: what others do remember stays known.)"""
        with self.database.write_unnoticed() as session:
            batch = session.get(Batch, self.batch_id, with_for_update=True)
            if batch is None or batch.lease_holder != self.holder:
                raise LeaseLost
            batch.lease_until = now() + timedelta(seconds=self.seconds)
            yield session, batch
            session.add(batch)

    def renew(self) -> None:
        try:
            with self.writing():
                pass
        except LeaseLost:
            # (Of a batch that has just ended nobody holds one.)
            if self.read().status in LIVE:
                raise

    def release(self) -> None:
        """Leave it to anybody, at once."""
        try:
            with self.writing() as (_, batch):
                batch.lease_holder = batch.lease_until = None
        except LeaseLost:
            return

    def read(self) -> Batch:
        with self.database.read() as session:
            return session.get_one(Batch, self.batch_id)


def claim(
    database: Database, *, seconds: float, busy: Collection[str] = (), of_each: int = 1
) -> Lease | None:
    """A lease on a batch that nobody works on: the oldest of the owner who has the fewest under
    way here (``busy`` names the owner of each of those), and fewer than ``of_each``."""
    oldest = func.min(Batch.created_at)
    with database.read() as session:
        waiting = session.exec(
            select(Batch.owner, oldest).where(_free()).group_by(Batch.owner).order_by(oldest)
        ).all()
    under_way = Counter(busy)
    for owner, _ in sorted(waiting, key=lambda one: under_way[one[0]]):
        if under_way[owner] < of_each and (lease := _claim_of(database, owner, seconds)):
            return lease
    return None


def _claim_of(database: Database, owner: str, seconds: float) -> Lease | None:
    query = select(Batch).where(Batch.owner == owner, _free()).order_by(col(Batch.created_at))
    with database.write() as session:
        batch = session.exec(query.limit(1).with_for_update(skip_locked=True)).first()
        if batch is None:
            return None
        lease = Lease(database, batch.id, owner, seconds)
        batch.lease_holder = lease.holder
        batch.lease_until = now() + timedelta(seconds=seconds)
        session.add(batch)
    return lease


def _free() -> ColumnElement[bool]:
    lapsed = or_(col(Batch.lease_until).is_(None), col(Batch.lease_until) < now())
    return col(Batch.status).in_(LIVE) & lapsed
