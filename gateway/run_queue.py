"""What workers are told of runs: to train one, and what its owner wants of it meanwhile.

The database is the authority. Redis is told of a change afterwards and as well as can be; what it
misses the reconciler makes up for.
"""

import asyncio
import logging
from typing import Literal

from redis.exceptions import RedisError
from sqlmodel import Session

from gateway.database import Database
from gateway.model_names import split_checkpoint
from gateway.services import Services
from gateway.tables import Dataset, LibraryModel, Run
from shared.event_stream import cancel_key, control_key
from shared.job_queue import TRAIN_RUN
from shared.model_library import LibraryEntry, built_in_library
from shared.runs import ContinueFrom, DatasetRef, FineTuneSpec, RunCommand

log = logging.getLogger(__name__)

WISH_SECONDS = 3600
REDIS_SECONDS = 5.0
# What can go wrong with a Redis that is down, slow or half-way back.
REDIS_ERRORS = (RedisError, OSError, TimeoutError)

Wish = Literal["cancel", "pause", "stop"]


def queued_command(*, database: Database, run_id: str) -> RunCommand | None:
    """What a worker is to be told of a run, as long as that run waits for one."""
    with database.read() as session:
        run = session.get(Run, run_id)
        if run is None or run.status != "queued" or run.pause_requested_at is not None:
            return None
        spec = FineTuneSpec.model_validate(run.spec)
        entry = _library_entry(session, spec.base_model)
        return RunCommand(
            run_id=run.id,
            attempt=run.attempt,
            spec=spec,
            base_model_folder=entry.folder if entry else None,
            datasets=tuple(_dataset_ref(session, part.id, part.weight) for part in spec.sources),
            validation=(
                _dataset_ref(session, spec.validation_dataset_id)
                if spec.validation_dataset_id
                else None
            ),
            chat_template=entry.chat_template if entry else "",
            continue_from=continued_run(spec),
            request_id=run.request_id,
        )


def continued_run(spec: FineTuneSpec) -> ContinueFrom | None:
    """Where a stored run's first weights come from: its spec names a run's id by then."""
    if spec.continue_from is None:
        return None
    run_id, step = split_checkpoint(spec.continue_from)
    return ContinueFrom(run_id=run_id, step=step)


def _library_entry(session: Session, base_model: str) -> LibraryEntry | None:
    """Without it the trainer would look for a model that was added as a folder on the hub."""
    if (built_in := built_in_library().get(base_model)) is not None:
        return built_in
    row = session.get(LibraryModel, base_model)
    return LibraryEntry.model_validate(row.entry) if row and row.entry else None


def _dataset_ref(session: Session, dataset_id: str, weight: float = 1.0) -> DatasetRef:
    dataset = session.get_one(Dataset, dataset_id)
    return DatasetRef(id=dataset.id, records_sha256=dataset.records_sha256, weight=weight)


async def enqueue_run(*, services: Services, run_id: str) -> None:
    """Tell the queue of a run that waits. A Redis that is away is no error: the reconciler
    comes by again."""
    command = await asyncio.to_thread(queued_command, database=services.database, run_id=run_id)
    if command is None:
        return
    rank, stop_wanted = await asyncio.to_thread(_place, services.database, run_id)
    if stop_wanted:
        await tell_worker(services=services, run_id=run_id, attempt=command.attempt, wish="stop")
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            payload = command.model_dump(mode="json")
            await services.queue.enqueue(TRAIN_RUN, command.job_id, payload, rank=rank)
    except REDIS_ERRORS as error:
        log.warning("Run %s waits for Redis to be enqueued: %s", run_id, error)


def _place(database: Database, run_id: str) -> tuple[int, bool]:
    with database.read() as session:
        run = session.get(Run, run_id)
        return (run.queue_rank, run.stop_requested_at is not None) if run else (0, False)


async def tell_worker(*, services: Services, run_id: str, attempt: int, wish: Wish) -> bool:
    """Set the key that the run's worker looks at and, unless the run is to go on, take its job
    away if no worker has it yet. Whether one has; False where Redis does not say."""
    job_id = f"{run_id}:{attempt}"
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            if wish == "cancel":
                await services.redis.set(cancel_key(run_id), attempt, ex=WISH_SECONDS)
            else:
                value = f"{attempt}:{wish}"
                await services.redis.set(control_key(run_id), value, ex=WISH_SECONDS)
            if wish != "stop" and not await services.queue.taken(job_id):
                await services.queue.remove(job_id)
            # Looked at again: one may have taken it in between.
            return await services.queue.taken(job_id)
    except REDIS_ERRORS as error:
        log.warning("Run %s: to %s it waits for Redis: %s", run_id, wish, error)
        return False
