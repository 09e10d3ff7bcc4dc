"""Work that outlives any gateway: rows of a table, each worked on by one gateway at a time.

Who works on a row holds a lease and renews it; what has lapsed may be taken by another one. Each
write asks first whether it is still the holder's: nothing is stored twice, and who was away for
too long changes nothing. Knows nothing of what the work is.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, or_, select

from gateway.database import Database
from gateway.tables import Evaluation, Synthesis, now

Held = TypeVar("Held", Evaluation, Synthesis)

# Of a gateway that is lost each time that it works on one, somebody must be told.
MAX_LOST = 5


class LeaseLost(Exception):
    """The row is somebody else's by now, or has ended."""


@dataclass(frozen=True)
class Kind(Generic[Held]):
    """A table of such work. ``live``: the states in which a row waits or is worked on; ``begin``
    is done to a row that is taken, ``fail`` ends it with a code and a message. ``way_out``: what
    its owner can do where gateways are lost again and again."""

    table: type[Held]
    live: Sequence[str]
    begin: Callable[[Held], None]
    fail: Callable[[Held, str, str], None]
    way_out: str


@dataclass(frozen=True)
class Lease(Generic[Held]):
    """The right to work on a row for ``seconds`` from its last renewal. Each has a ``holder`` of
    its own: a thread that is late by a whole lease writes nothing into the next one."""

    database: Database
    kind: Kind[Held]
    id: str
    owner: str
    seconds: float
    holder: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    @contextmanager
    def writing(self) -> Iterator[tuple[Session, Held]]:
        """A transaction that changes the row; `LeaseLost` where that is not ours to do."""
        with self.database.write() as session:
            found = session.get(self.kind.table, self.id, with_for_update=True)
            if found is None or found.holder != self.holder:
                raise LeaseLost
            yield session, found
            session.add(found)

    def renew(self) -> None:
        with self.writing() as (_, found):
            found.held_until = now() + timedelta(seconds=self.seconds)

    @contextmanager
    def ending(self) -> Iterator[tuple[Session, Held]]:
        """The last write: nobody holds it any more."""
        with self.writing() as (session, found):
            yield session, found
            found.holder = found.held_until = None

    def release(self) -> None:
        """Leave it to anybody, at once."""
        with self.ending():
            pass

    def fail(self, code: str, message: str) -> None:
        with self.ending() as (_, found):
            self.kind.fail(found, code, message)


def claim(
    database: Database, kind: Kind[Held], *, seconds: float, served: Sequence[str] = ()
) -> Lease[Held] | None:
    """A lease on a row that nobody works on: the oldest of the owner who is least often among
    ``served``, those whose turn it was."""
    oldest = func.min(kind.table.created_at)
    with database.read() as session:
        query = select(kind.table.owner, oldest).where(_free(kind)).group_by(kind.table.owner)
        waiting = session.exec(query.order_by(oldest)).all()
    for owner, _ in sorted(waiting, key=lambda one: served.count(one[0])):
        if (lease := _claim_of(database, kind, owner, seconds)) is not None:
            return lease
    return None


def _claim_of(
    database: Database, kind: Kind[Held], owner: str, seconds: float
) -> Lease[Held] | None:
    table = kind.table
    query = select(table).where(table.owner == owner, _free(kind)).order_by(col(table.created_at))
    # (PostgreSQL: two gateways take two; SQLite's write transactions exclude one another.)
    query = query.limit(1).with_for_update(skip_locked=True)
    with database.write() as session:
        while (found := session.exec(query).first()) is not None:
            session.add(found)
            if found.holder is not None:
                found.lost += 1
            if found.lost < MAX_LOST:
                kind.begin(found)
                lease = Lease(database, kind, found.id, owner, seconds)
                found.holder = lease.holder
                found.held_until = now() + timedelta(seconds=seconds)
                return lease
            said = f"It was begun {found.lost} times without getting on: each time its gateway "
            kind.fail(found, "gateway_lost", f"{said}was lost, or failed. {kind.way_out}")
            found.holder = found.held_until = None
    return None


def _free(kind: Kind[Held]) -> ColumnElement[bool]:
    held_until = col(kind.table.held_until)
    return col(kind.table.status).in_(kind.live) & or_(held_until.is_(None), held_until < now())
