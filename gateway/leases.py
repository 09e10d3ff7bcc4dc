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

from sqlalchemy import ColumnElement
from sqlmodel import Session, col, or_, select

from gateway.database import Database
from gateway.tables import Evaluation, Synthesis, now

Held = TypeVar("Held", Evaluation, Synthesis)

# Of a gateway that is lost each time that it works on one, somebody must be told.
MAX_LOST = 5
# So many of those that wait are looked at for an owner whose turn it is.
_LOOKED_AT = 200


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
    """A lease on a row that nobody works on: the oldest of an owner who is least often among
    ``served``, those whose turn it was."""
    with database.read() as session:
        table = kind.table
        query = select(table.id, table.owner).where(_free(kind)).order_by(col(table.created_at))
        found = session.exec(query.limit(_LOOKED_AT)).all()
    for row_id, owner in sorted(found, key=lambda one: served.count(one[1])):
        lease = Lease(database, kind, row_id, owner, seconds)
        if _taken(lease):
            return lease
    return None


def _taken(lease: Lease[Held]) -> bool:
    """Whether it was still free, and may be worked on."""
    kind = lease.kind
    with lease.database.write() as session:
        # (PostgreSQL: one of two waits, and finds it taken; SQLite's writers exclude each other.)
        query = select(kind.table).where(kind.table.id == lease.id, _free(kind))
        found = session.exec(query.with_for_update()).first()
        if found is None:
            return False
        session.add(found)
        if found.holder is not None:
            found.lost += 1
        if found.lost >= MAX_LOST:
            said = f"It was begun {found.lost} times without getting on: each time its gateway "
            kind.fail(found, "gateway_lost", f"{said}was lost, or failed. {kind.way_out}")
            found.holder = found.held_until = None
            return False
        kind.begin(found)
        found.holder = lease.holder
        found.held_until = now() + timedelta(seconds=lease.seconds)
        return True


def _free(kind: Kind[Held]) -> ColumnElement[bool]:
    held_until = col(kind.table.held_until)
    return col(kind.table.status).in_(kind.live) & or_(held_until.is_(None), held_until < now())
