"""Files with the requests and the answers of batches: bytes in the storage, facts in the database.
Knows no HTTP."""

import logging
import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from sqlmodel import Session, col, select

from gateway.batches.states import LIVE
from gateway.database import Database
from gateway.datasets.store import clean_filename
from gateway.idempotency import Claim
from gateway.openai_api import ids
from gateway.tables import Batch, BatchFile, now
from shared.errors import Conflict, InvalidRequest, NotFound, TooLarge
from shared.storage import Storage, atomic_file, sha256_of, sync_directory

log = logging.getLogger(__name__)

BATCH, OUTPUT = "batch", "batch_output"
# OpenAI's numbers.
MAX_BYTES = 200 * 1024 * 1024
INPUT_KEPT = timedelta(days=30)
SHORTEST_SECONDS, LONGEST_SECONDS = 3600, 30 * 24 * 3600
# A file that is not whole by then was left by a gateway that died.
_HALF_KEPT = timedelta(hours=1)
_REMOVED_AT_ONCE = 100


def check_expiry(anchor: object, seconds: object, *, param: str) -> int:
    """The life in seconds that ``expires_after`` asks for."""
    if anchor != "created_at":
        raise InvalidRequest(f"{param}.anchor must be created_at.", param=param)
    text = str(seconds)
    right = text.isdecimal() and len(text) < 10
    if not right or not SHORTEST_SECONDS <= int(text) <= LONGEST_SECONDS:
        raise InvalidRequest(
            f"{param}.seconds must lie between {SHORTEST_SECONDS} and {LONGEST_SECONDS}.",
            param=param,
        )
    return int(text)


def keep_input(
    *,
    database: Database,
    storage: Storage,
    owner: str,
    source: Path,
    filename: str,
    seconds: int | None = None,
    claim: Claim | None = None,
) -> BatchFile:
    """Keep an uploaded file of requests. What is in it is looked at by the batch."""
    if (size := source.stat().st_size) > MAX_BYTES:
        raise TooLarge(
            f"A batch's file may hold {MAX_BYTES:,} bytes; this one has {size:,}. Split it.",
            code="file_too_large",
            param="file",
        )
    life = INPUT_KEPT if seconds is None else timedelta(seconds=seconds)
    file = _begin(database, BatchFile(owner=owner, filename=clean_filename(filename)))
    target = storage.file(file.id)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with source.open("rb") as content:
        os.fsync(content.fileno())
    os.replace(source, target)
    sync_directory(target.parent)
    _measure(file, target)
    with database.write() as session:
        _complete(session, file, BATCH, file.created_at + life)
        if claim is not None:
            claim.attach(session, file.id)
    return file


def _begin(database: Database, file: BatchFile) -> BatchFile:
    """Note the file before its bytes are in their place, so that none are left behind."""
    file.expires_at = now() + _HALF_KEPT
    with database.write() as session:
        session.merge(file)
    return file


def _measure(file: BatchFile, path: Path) -> None:
    """(Outside of any transaction: nobody could write while hundreds of megabytes are read.)"""
    file.bytes, file.sha256 = path.stat().st_size, sha256_of(path)


def _complete(session: Session, file: BatchFile, purpose: str, expires_at: datetime | None) -> None:
    file.purpose, file.expires_at = purpose, expires_at
    session.merge(file)


def write_output(
    *, database: Database, storage: Storage, owner: str, filename: str, lines: Iterable[str]
) -> BatchFile:
    """Write a batch's answers; `complete_output` makes a file of them.

    Each time it is another one: whoever lost the batch meanwhile and writes still must not
    write into the file of who has it. What nobody completes goes like what is half uploaded."""
    file = _begin(database, BatchFile(owner=owner, filename=filename))
    target = storage.file(file.id)
    with atomic_file(target) as out:
        for line in lines:
            out.write(line.encode() + b"\n")
    _measure(file, target)
    return file


def complete_output(session: Session, file: BatchFile, seconds: int | None) -> None:
    """To be called in the transaction in which the batch names the file."""
    file.created_at = now()
    ends = None if seconds is None else file.created_at + timedelta(seconds=seconds)
    _complete(session, file, OUTPUT, ends)


def find(
    session: Session, owner: str, stored_id: str, *, for_update: bool = False
) -> BatchFile | None:
    """The owner's file, unless it has expired or is not whole yet."""
    file = session.get(BatchFile, stored_id, with_for_update=for_update)
    if file is None or file.owner != owner or not file.purpose:
        return None
    return None if file.expires_at is not None and file.expires_at <= now() else file


def input_file(session: Session, owner: str, file_id: str) -> BatchFile:
    """The file of requests that a new batch names. Nobody deletes it before the batch is there."""
    try:
        file = find(session, owner, ids.stored_id(file_id), for_update=True)
    except NotFound:
        file = None
    if file is None or file.purpose != BATCH:
        raise InvalidRequest(
            f"input_file_id names no file of yours with the purpose 'batch': {file_id[:80]!r}.",
            code="invalid_file",
            param="input_file_id",
        )
    return file


def delete(*, database: Database, storage: Storage, owner: str, stored_id: str) -> None:
    with database.write() as session:
        file = session.get(BatchFile, stored_id, with_for_update=True)
        if file is None or file.owner != owner:
            raise ids.no_file(ids.file_id(stored_id))
        if _is_needed(session, stored_id):
            raise Conflict(
                "A batch works on this file. Cancel the batch or wait for its end.",
                code="file_in_use",
            )
        session.delete(file)
    storage.file(stored_id).unlink(missing_ok=True)


def _is_needed(session: Session, stored_id: str) -> bool:
    query = select(Batch.id).where(Batch.input_file_id == stored_id, col(Batch.status).in_(LIVE))
    return session.exec(query.limit(1)).first() is not None


def remove_expired(database: Database, storage: Storage) -> None:
    """Remove what has expired and no batch works on."""
    expired = select(BatchFile.id).where(col(BatchFile.expires_at) <= now())
    with database.read() as session:
        found = session.exec(expired.limit(_REMOVED_AT_ONCE)).all()
    for stored_id in found:
        with database.write() as session:
            file = session.get(BatchFile, stored_id, with_for_update=True)
            if file is None or file.expires_at is None or file.expires_at > now():
                continue
            if _is_needed(session, stored_id):
                continue
            session.delete(file)
        log.info("Removing the expired file %s.", stored_id)
        storage.file(stored_id).unlink(missing_ok=True)
