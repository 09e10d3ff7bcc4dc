"""Creates that may be sent twice: the first answer to an Idempotency-Key is kept and given again.

Knows neither HTTP nor what is created.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlmodel import Session, col, delete

from gateway.database import Database
from gateway.tables import IdempotentRequest, now
from shared.errors import Conflict, InvalidData, InvalidRequest

KEPT = timedelta(days=1)
# Who works on an answer renews its claim; one of this age belongs to a gateway that died.
ABANDONED = timedelta(seconds=60)
RENEW_SECONDS = 15.0
_OBJECT = "object_id"


@dataclass(frozen=True)
class Answer:
    """What a create answered; ``replayed`` where it had been given before."""

    status: int
    body: dict[str, Any]
    replayed: bool = False


@dataclass(frozen=True)
class Claim:
    """The right to answer a key for the first time."""

    owner: str
    key: str
    request_sha256: str = field(repr=False)
    abandoned: timedelta = ABANDONED
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def attach(self, session: Session, object_id: str) -> None:
        """Note what was created in the transaction that creates it. If the gateway dies before
        it can answer, a repeat finds this object instead of making another."""
        row = self.row(session)
        if row is None:
            raise _in_progress()
        row.body = {_OBJECT: object_id}
        session.add(row)

    def row(self, session: Session) -> IdempotentRequest | None:
        """The key's row, unless another request took it over."""
        row = session.get(IdempotentRequest, (self.owner, self.key), with_for_update=True)
        return row if row is not None and row.claim == self.token else None


class Attached(Protocol):
    """Whoever has to note what was created, in the transaction that creates it: a `Claim`, or what
    is made of several."""

    def attach(self, session: Session, object_id: str) -> None: ...


Create = Callable[[Claim | None], Awaitable[dict[str, Any]]]
Load = Callable[[str], Awaitable[dict[str, Any]]]


async def idempotent(
    *,
    database: Database,
    owner: str,
    key: str | None,
    request_sha256: str,
    status: int,
    create: Create,
    load: Load | None = None,
    withheld: str | None = None,
    abandoned: timedelta = ABANDONED,
) -> Answer:
    """The answer of ``create``, or the one that was given to this key before.

    Only successes are kept: what failed may be tried again under the same key. ``load`` makes the
    answer for an object that a claim was attached to. The field ``withheld`` (a secret) is given
    once and not kept: a repeat finds None there.
    """
    if key is None:
        return Answer(status, await create(None))
    claim = Claim(owner, check_key(key), request_sha256, abandoned)
    earlier = await asyncio.to_thread(_claim, database, claim)
    if earlier is not None and earlier.status is not None:
        return Answer(earlier.status, earlier.body or {}, replayed=True)
    if earlier is not None and load is not None:
        body = await load((earlier.body or {})[_OBJECT])
        await asyncio.to_thread(_settle, database, claim, status, body)
        return Answer(status, body, replayed=True)
    try:
        async with _renewed(database, claim):
            body = await create(claim)
    except BaseException:
        await asyncio.to_thread(_release, database, claim)
        raise
    kept = body if withheld is None else body | {withheld: None}
    await asyncio.to_thread(_settle, database, claim, status, kept)
    return Answer(status, body)


@asynccontextmanager
async def _renewed(database: Database, claim: Claim) -> AsyncIterator[None]:
    """Keep the claim young as long as the block works: a repeat must not take it over."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(min(RENEW_SECONDS, claim.abandoned.total_seconds() / 4))
            with suppress(SQLAlchemyError):
                await asyncio.to_thread(_renew, database, claim)

    task = asyncio.create_task(renew())
    try:
        yield
    finally:
        task.cancel()


def _renew(database: Database, claim: Claim) -> None:
    with database.write() as session:
        row = claim.row(session)
        if row is not None:
            row.created_at = now()
            session.add(row)


def check_key(key: str) -> str:
    if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise InvalidRequest(
            "Idempotency-Key must be 1 to 255 printable ASCII characters.", param="Idempotency-Key"
        )
    return key


def _claim(database: Database, claim: Claim) -> IdempotentRequest | None:
    """Take the key; the row of an earlier request that was answered, or that created something."""
    row = IdempotentRequest(
        owner=claim.owner,
        key=claim.key,
        request_sha256=claim.request_sha256,
        claim=claim.token,
        body=None,
    )
    try:
        with database.write() as session:
            session.exec(
                delete(IdempotentRequest).where(col(IdempotentRequest.created_at) < now() - KEPT)
            )
            session.add(row)
        return None
    except IntegrityError:
        return _earlier(database, claim)


def _earlier(database: Database, claim: Claim) -> IdempotentRequest | None:
    with database.write() as session:
        row = session.get(IdempotentRequest, (claim.owner, claim.key), with_for_update=True)
        if row is None:
            raise _in_progress()
        if row.request_sha256 != claim.request_sha256:
            raise InvalidData(
                "This Idempotency-Key was used for another request. Use a new one.",
                code="idempotency_key_reused",
                param="Idempotency-Key",
            )
        if row.status is not None:
            return row
        if row.created_at > now() - claim.abandoned:
            raise _in_progress()
        if row.body is None:
            row.claim, row.created_at = claim.token, now()
            session.add(row)
            return None
        row.claim = claim.token
        session.add(row)
        return row


def _in_progress() -> Conflict:
    return Conflict(
        "The first request with this Idempotency-Key is still being answered.",
        code="idempotency_key_in_use",
        retry_after=1,
    )


def _settle(database: Database, claim: Claim, status: int, body: dict[str, Any]) -> None:
    with database.write() as session:
        row = claim.row(session)
        if row is not None:
            row.status, row.body = status, body
            session.add(row)


def _release(database: Database, claim: Claim) -> None:
    with database.write() as session:
        row = claim.row(session)
        # What was created stays created, whatever failed after it.
        if row is not None and row.status is None and row.body is None:
            session.delete(row)
