"""The base models that can be chosen: those that ship with GenPlat and those that users added.

Knows where each stands on its way to the data folder; the trainer does the work.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from redis.exceptions import RedisError
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, or_, select

from gateway.database import Database
from gateway.idempotency import Claim
from gateway.keys import ADMIN_OWNER
from gateway.model_folders import checked_folder, facts_of, read_config
from gateway.tables import LibraryModel, now
from shared import request_id
from shared.errors import Conflict, InvalidData, NotFound, Unavailable
from shared.job_queue import PREPARE_BASE_MODEL, JobQueue
from shared.model_library import (
    REPO_ID,
    LibraryEntry,
    built_in_library,
    has_local_weights,
    is_prepared,
    preparation_failure,
)
from shared.storage import Storage

State = Literal["missing", "available", "preparing", "ready", "failed"]

# A job that was enqueued this recently may not show in the queue yet.
SETTLING = timedelta(seconds=15)
# As long as a request waits for a queue that accepts and never answers.
QUEUE_SECONDS = 5.0


@dataclass(frozen=True)
class LibraryItem:
    """``available``: the weights are on this machine and not converted yet."""

    entry: LibraryEntry
    state: State
    error: str | None = None


def list_library(*, database: Database, storage: Storage, owner: str) -> list[LibraryItem]:
    """Every model that ``owner`` may choose, GenPlat's own first."""
    rows = _rows(database, owner)
    own = [LibraryEntry.model_validate(row.entry) for row in rows.values() if row.entry]
    entries = [*built_in_library().values(), *own]
    return [_item(storage, entry, rows.get(entry.id)) for entry in entries]


def get_library_item(
    *, database: Database, storage: Storage, owner: str, model_id: str
) -> LibraryItem:
    for item in list_library(database=database, storage=storage, owner=owner):
        if item.entry.id == model_id:
            return item
    raise NotFound(f"There is no base model {model_id[:200]!r} in the library.")


def _rows(database: Database, owner: str) -> dict[str, LibraryModel]:
    """The rows of ``owner``'s models, and of the built-in models that were ever prepared."""
    query = select(LibraryModel).where(
        or_(LibraryModel.owner == owner, col(LibraryModel.id).in_(list(built_in_library())))
    )
    with database.read() as session:
        rows = session.exec(query.order_by(col(LibraryModel.created_at))).all()
    return {row.id: row for row in rows}


def _item(storage: Storage, entry: LibraryEntry, row: LibraryModel | None) -> LibraryItem:
    if is_prepared(storage, entry.id):
        return LibraryItem(_with_facts(entry, storage.base_model(entry.id)), "ready")
    if row is not None and row.preparing_job is not None and row.preparing_since is not None:
        return LibraryItem(entry, "preparing")
    if row is not None and row.error is not None:
        return LibraryItem(entry, "failed", row.error)
    return LibraryItem(entry, "available" if has_local_weights(storage, entry) else "missing")


@lru_cache(maxsize=256)
def _with_facts(entry: LibraryEntry, folder: Path) -> LibraryEntry:
    """A hub's model was added by its name alone: once it is here, its config tells the rest."""
    if entry.shape is not None or entry.id in built_in_library():
        return entry
    try:
        facts = facts_of(folder, read_config(folder))
    except (InvalidData, OSError):
        return entry
    told = entry.model_dump(exclude_defaults=True)
    return LibraryEntry.model_validate(facts | told)


def add_library_model(
    *,
    database: Database,
    owner: str,
    import_root: Path,
    model_id: str,
    name: str | None = None,
    folder: str | None = None,
    context_length: int | None = None,
    claim: Claim | None = None,
) -> LibraryEntry:
    """Register a hub repository by its id, or a local folder under ``import_root``."""
    if not REPO_ID.fullmatch(model_id):
        raise InvalidData("id must look like owner/name, as on the Hugging Face hub.", param="id")
    if model_id in built_in_library():
        raise Conflict(f"{model_id} is in the library already.", param="id")
    facts: dict[str, Any] = {}
    if folder is not None:
        path = checked_folder(folder, root=import_root)
        facts = {"folder": str(path)} | facts_of(path, read_config(path))
    if context_length is not None:
        facts["context_length"] = context_length
    entry = LibraryEntry(id=model_id, name=name or model_id.partition("/")[2], **facts)
    try:
        with database.write() as session:
            told = entry.model_dump(mode="json", exclude_defaults=True)
            session.add(LibraryModel(id=model_id, owner=owner, entry=told))
            if claim is not None:
                claim.attach(session, model_id)
    except IntegrityError as error:
        raise Conflict(f"{model_id} is in the library already.", param="id") from error
    return entry


async def prepare(
    *, database: Database, storage: Storage, queue: JobQueue, owner: str, model_id: str
) -> LibraryItem:
    """Ask the trainer to make the model loadable; asking again while it works changes nothing."""
    await settle_preparations(database=database, storage=storage, queue=queue)

    def look() -> LibraryItem:
        return get_library_item(database=database, storage=storage, owner=owner, model_id=model_id)

    item = await asyncio.to_thread(look)
    if item.state in ("ready", "preparing"):
        return item
    job = await asyncio.to_thread(_begin, database, storage, owner, model_id)
    if job is not None:
        try:
            payload = {"model_id": model_id, "folder": item.entry.folder}
            if (made_by := request_id.current()) is not None:
                payload["request_id"] = made_by
            async with asyncio.timeout(QUEUE_SECONDS):
                await queue.enqueue(PREPARE_BASE_MODEL, job, payload)
        except (RedisError, OSError) as error:
            await asyncio.to_thread(_end, database, model_id, job, None)
            raise Unavailable(
                "The queue cannot be reached, so nothing was started. Try again in a moment.",
                code="queue_unavailable",
                retry_after=5,
            ) from error
    return await asyncio.to_thread(look)


def _begin(database: Database, storage: Storage, owner: str, model_id: str) -> str | None:
    """Note that a job is on its way; None where another request was faster."""
    began = now()
    job = f"prepare:{storage.base_model(model_id).name}:{int(began.timestamp() * 1000)}"
    try:
        with database.write() as session:
            row = session.get(LibraryModel, model_id, with_for_update=True)
            if row is None:
                # What ships with GenPlat belongs to nobody in particular.
                keeper = ADMIN_OWNER if model_id in built_in_library() else owner
                row = LibraryModel(id=model_id, owner=keeper)
            if row.preparing_job is not None:
                return None
            row.preparing_job, row.preparing_since, row.error = job, began, None
            session.add(row)
    except IntegrityError:
        return None
    return job


async def settle_preparations(*, database: Database, storage: Storage, queue: JobQueue) -> None:
    """Note the end of every preparation whose job is gone from the queue: the model is there, or
    the trainer said why not. While Redis is away nothing is known and nothing changes."""
    for row in await asyncio.to_thread(_preparing, database):
        job = row.preparing_job or ""
        if is_prepared(storage, row.id):
            await asyncio.to_thread(_end, database, row.id, job, None)
        elif row.preparing_since is not None and row.preparing_since < now() - SETTLING:
            try:
                if await queue.holds(job):
                    continue
            except (RedisError, OSError):
                return
            if is_prepared(storage, row.id):
                continue
            reason = await asyncio.to_thread(_reason, storage, row.id)
            await asyncio.to_thread(_end, database, row.id, job, reason)


def _preparing(database: Database) -> list[LibraryModel]:
    query = select(LibraryModel).where(col(LibraryModel.preparing_job).is_not(None))
    with database.read() as session:
        return list(session.exec(query).all())


def _reason(storage: Storage, model_id: str) -> str:
    failure = preparation_failure(storage, model_id)
    if failure is not None:
        return failure.message
    return "The preparation ended without a model. The trainer's log tells more; try again."


def _end(database: Database, model_id: str, job: str, error: str | None) -> None:
    with database.write() as session:
        row = session.get(LibraryModel, model_id)
        if row is not None and row.preparing_job == job:
            row.preparing_job, row.preparing_since, row.error = None, None, error
            session.add(row)
