"""Fine-tuning runs: started, listed, cancelled, deleted. Knows no HTTP, no queue but its protocol.

The database is the authority. Redis is told of a change afterwards and as well as can be; what it
misses the reconciler makes up for.
"""

import asyncio
import logging
from pathlib import Path

from redis.exceptions import RedisError
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, select

from gateway import library
from gateway.database import Database
from gateway.idempotency import Claim
from gateway.models import run_engine_name
from gateway.run_states import cancelled, state_of, write_state
from gateway.run_views import RunView, owned_run, view_of
from gateway.services import Services
from gateway.tables import Dataset, Deployment, LibraryModel, Run, now
from shared.chaos import stage
from shared.errors import Conflict, GenPlatError, InvalidData, NotFound
from shared.event_stream import cancel_key
from shared.job_queue import TRAIN_RUN
from shared.model_library import LibraryEntry
from shared.runs import TERMINAL, DatasetRef, FineTuneSpec, RunCommand
from shared.storage import Storage, remove, set_aside

log = logging.getLogger(__name__)

CANCEL_KEY_SECONDS = 3600
REDIS_SECONDS = 5.0
# What can go wrong with a Redis that is down, slow or half-way back.
REDIS_ERRORS = (RedisError, OSError, TimeoutError)


async def create_run(
    *, services: Services, owner: str, spec: FineTuneSpec, claim: Claim | None = None
) -> RunView:
    """Check and store a run; it is safe from then on, whether the queue is there or not."""
    view = await asyncio.to_thread(
        _insert_run,
        database=services.database,
        storage=services.storage,
        owner=owner,
        spec=spec,
        claim=claim,
    )
    stage("gateway_enqueues", view.id)
    await enqueue_run(services=services, run_id=view.id)
    stage("gateway_answers", view.id)
    return view


def _insert_run(
    *,
    database: Database,
    storage: Storage,
    owner: str,
    spec: FineTuneSpec,
    claim: Claim | None,
) -> RunView:
    try:
        library.get_library_item(
            database=database, storage=storage, owner=owner, model_id=spec.base_model
        )
    except NotFound as error:
        raise InvalidData(
            f"base_model {spec.base_model!r} is not in the model library. Choose one of "
            "GET /api/library, or add it with POST /api/library.",
            param="base_model",
        ) from error
    with database.write() as session:
        for source in spec.sources:
            param = "dataset_id" if spec.dataset_id else "datasets"
            _owned_dataset(session, owner, source.id, param)
        if spec.validation_dataset_id is not None:
            if spec.validation_dataset_id in {source.id for source in spec.sources}:
                raise InvalidData(
                    "validation_dataset_id names the dataset that the run learns from: it would "
                    "say nothing about unseen rows. Name another one, or leave it out and set "
                    "validation_split.",
                    param="validation_dataset_id",
                )
            _owned_dataset(session, owner, spec.validation_dataset_id, "validation_dataset_id")
        run = Run(
            owner=owner,
            spec=spec.model_dump(mode="json"),
            base_model=spec.base_model,
            dataset_id=spec.sources[0].id,
            queued_at=now(),
        )
        stage("gateway_inserts")
        session.add(run)
        session.flush()
        if claim is not None:
            claim.attach(session, run.id)
        stage("gateway_commits", run.id)
        return view_of(session, run)


def _owned_dataset(session: Session, owner: str, dataset_id: str, param: str) -> Dataset:
    # Held (by as many as want): it must not be deleted between this look and the run's own row.
    dataset = session.get(Dataset, dataset_id, with_for_update={"read": True})
    if dataset is None or dataset.owner != owner or dataset.deleted_at is not None:
        raise InvalidData(f"{param} names no dataset of yours: {dataset_id!r}.", param=param)
    return dataset


def queued_command(*, database: Database, run_id: str) -> RunCommand | None:
    """What a worker is to be told of a run, as long as that run waits for one."""
    with database.read() as session:
        run = session.get(Run, run_id)
        if run is None or run.status != "queued":
            return None
        spec = FineTuneSpec.model_validate(run.spec)
        return RunCommand(
            run_id=run.id,
            attempt=run.attempt,
            spec=spec,
            base_model_folder=_local_folder(session, spec.base_model),
            datasets=tuple(_dataset_ref(session, part.id, part.weight) for part in spec.sources),
            validation=(
                _dataset_ref(session, spec.validation_dataset_id)
                if spec.validation_dataset_id
                else None
            ),
        )


def _local_folder(session: Session, base_model: str) -> Path | None:
    """Where a model that was added as a folder lies. Without it the trainer would look for a
    model of the same name on the hub."""
    row = session.get(LibraryModel, base_model)
    folder = LibraryEntry.model_validate(row.entry).folder if row and row.entry else None
    return Path(folder) if folder else None


def _dataset_ref(session: Session, dataset_id: str, weight: float = 1.0) -> DatasetRef:
    dataset = session.get_one(Dataset, dataset_id)
    return DatasetRef(id=dataset.id, records_sha256=dataset.records_sha256, weight=weight)


async def enqueue_run(*, services: Services, run_id: str) -> None:
    """Tell the queue of a run that waits. A Redis that is away is no error: the reconciler
    comes by again."""
    command = await asyncio.to_thread(queued_command, database=services.database, run_id=run_id)
    if command is None:
        return
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            await services.queue.enqueue(TRAIN_RUN, command.job_id, command.model_dump(mode="json"))
    except REDIS_ERRORS as error:
        log.warning("Run %s waits for Redis to be enqueued: %s", run_id, error)


async def cancel_run(*, services: Services, owner: str, run_id: str) -> RunView:
    """Cancel at once what waits; ask the worker of what runs to stop."""
    view = await asyncio.to_thread(_cancel, database=services.database, owner=owner, run_id=run_id)
    services.feed.notify(run_id)
    await tell_worker_to_stop(services=services, run_id=run_id, attempt=view.attempt)
    return view


def _cancel(*, database: Database, owner: str, run_id: str) -> RunView:
    with database.write() as session:
        # Locked: an event that is written between look and change would make it vain.
        run = owned_run(session, owner=owner, run_id=run_id, for_update=True)
        if run.status in ("succeeded", "failed"):
            raise Conflict(f"The run has {run.status} already; there is nothing to cancel.")
        if run.cancel_requested_at is None and run.status != "cancelled":
            before = state_of(run)
            after = before if run.status == "running" else cancelled(before)
            if not write_state(session, run_id, before, after, cancel_requested_at=now()):
                raise Conflict("The run changed at this very moment; ask again.", retry_after=1)
            session.refresh(run)
        return view_of(session, run)


async def tell_worker_to_stop(*, services: Services, run_id: str, attempt: int) -> None:
    """Set the key that the run's worker looks at, and take its job away if none has it yet."""
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            await services.redis.set(cancel_key(run_id), attempt, ex=CANCEL_KEY_SECONDS)
            job_id = f"{run_id}:{attempt}"
            if not await services.queue.taken(job_id):
                await services.queue.remove(job_id)
    except REDIS_ERRORS as error:
        log.warning("The cancel of run %s waits for Redis: %s", run_id, error)


async def delete_run(*, services: Services, owner: str, run_id: str) -> None:
    """Remove a run that has ended, with its checkpoints and its model."""
    await asyncio.to_thread(
        _delete, database=services.database, storage=services.storage, owner=owner, run_id=run_id
    )
    services.feed.notify(run_id)
    try:
        await services.inference.unload(run_engine_name(run_id))
    except GenPlatError as error:
        log.info("The model of run %s may stay in memory for a while: %s", run_id, error.message)


def _delete(*, database: Database, storage: Storage, owner: str, run_id: str) -> None:
    try:
        with database.write() as session:
            run = owned_run(session, owner=owner, run_id=run_id)
            if run.status not in TERMINAL:
                raise Conflict(f"The run is {run.status}. Cancel it before you delete it.")
            served = session.exec(select(Deployment.name).where(Deployment.run_id == run_id))
            if (name := served.first()) is not None:
                raise Conflict(f"The deployment {name!r} serves this run. Delete that first.")
            session.delete(run)
            session.flush()
            aside = set_aside(storage.run(run_id))
    except IntegrityError as error:
        raise Conflict("The run was deployed at this very moment.") from error
    remove(aside)
