"""Fine-tuning runs: started and deleted; what else their owners ask is in `run_controls`. Knows no
HTTP."""

import asyncio
import logging
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from gateway import library
from gateway.checkpoint_files import put_aside
from gateway.continuing import resolve_origin
from gateway.database import Database
from gateway.fair_queue import next_rank
from gateway.idempotency import Attached
from gateway.models import is_engine_name_of
from gateway.run_controls import cancel_run, pause_run, resume_run, stop_run
from gateway.run_queue import REDIS_ERRORS, continued_run, enqueue_run, queued_command
from gateway.run_views import RunView, owned_run, view_of
from gateway.services import Services
from gateway.tables import Dataset, Deployment, Run, now
from shared import request_id
from shared.chaos import stage
from shared.errors import Conflict, GenPlatError, InvalidData, NotFound
from shared.runs import TERMINAL, FineTuneSpec
from shared.storage import Storage, remove, set_aside

log = logging.getLogger(__name__)

__all__ = [
    "REDIS_ERRORS",
    "cancel_run",
    "create_run",
    "delete_run",
    "enqueue_run",
    "pause_run",
    "queued_command",
    "resume_run",
    "stop_run",
]


async def create_run(
    *,
    services: Services,
    owner: str,
    spec: FineTuneSpec,
    claim: Attached | None = None,
    openai: dict[str, Any] | None = None,
) -> RunView:
    """Check and store a run; it is safe from then on, whether the queue is there or not.
    ``openai`` is kept for OpenAI's clients."""
    view = await asyncio.to_thread(
        _insert_run,
        database=services.database,
        storage=services.storage,
        owner=owner,
        spec=spec,
        claim=claim,
        openai=openai,
    )
    log.info("Run %s was made.", view.id)
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
    claim: Attached | None,
    openai: dict[str, Any] | None,
) -> RunView:
    spec = checked_spec(database=database, storage=storage, owner=owner, spec=spec)
    origin = continued_run(spec)
    if origin is not None and origin.step is not None:
        # Before the transaction: weights may be large. A checkpoint in use is not forgotten.
        put_aside(storage, origin.run_id, origin.step, param="continue_from")
    with database.write() as session:
        resolve_origin(session, owner, spec)
        for source in spec.sources:
            param = "dataset_id" if spec.dataset_id else "datasets"
            _owned_dataset(session, owner, source.id, param)
        if spec.validation_dataset_id is not None:
            _owned_dataset(session, owner, spec.validation_dataset_id, "validation_dataset_id")
        run = Run(
            owner=owner,
            spec=spec.model_dump(mode="json"),
            base_model=spec.base_model,
            dataset_id=spec.sources[0].id,
            queued_at=now(),
            queue_rank=next_rank(session, owner),
            openai=openai,
            request_id=request_id.current(),
        )
        stage("gateway_inserts")
        session.add(run)
        session.flush()
        if claim is not None:
            claim.attach(session, run.id)
        stage("gateway_commits", run.id)
        return view_of(session, run)


def checked_spec(
    *, database: Database, storage: Storage, owner: str, spec: FineTuneSpec
) -> FineTuneSpec:
    """The spec as a run would keep it, with what an earlier run and the library decide.
    InvalidData, naming the field, where it makes no run. (The datasets are looked at apart.)"""
    with database.read() as session:
        spec = resolve_origin(session, owner, spec)
    spec = _with_library(database, storage, owner, spec)
    _check_validation(spec)
    return spec


def _with_library(
    database: Database, storage: Storage, owner: str, spec: FineTuneSpec
) -> FineTuneSpec:
    """The spec with what the base model's entry in the library decides."""
    try:
        item = library.get_library_item(
            database=database, storage=storage, owner=owner, model_id=spec.base_model
        )
    except NotFound as error:
        raise InvalidData(
            f"base_model {spec.base_model!r} is not in the model library. Choose one of "
            "GET /api/library, or add it with POST /api/library.",
            param="base_model",
        ) from error
    if spec.task_prefix is not None:
        return spec
    return spec.model_copy(update={"task_prefix": item.entry.task_prefix})


def _check_validation(spec: FineTuneSpec) -> None:
    if spec.validation_dataset_id in {source.id for source in spec.sources}:
        raise InvalidData(
            "validation_dataset_id names the dataset that the run learns from: it would say "
            "nothing about unseen rows. Name another one, or leave it out and set "
            "validation_split.",
            param="validation_dataset_id",
        )
    if spec.validation_dataset_id is not None or spec.validation_split > 0:
        return
    patience = spec.early_stopping_patience
    for name, wanted in (
        ("early_stopping_patience", patience not in ("auto", 0)),
        ("load_best_model_at_end", spec.load_best_model_at_end is True),
    ):
        if wanted:
            raise InvalidData(
                f"{name} goes by the validation loss, and this run has no rows to validate on. Set "
                f"validation_split or validation_dataset_id, or leave {name} out.",
                param=name,
            )


def _owned_dataset(session: Session, owner: str, dataset_id: str, param: str) -> Dataset:
    # Held (by as many as want): it must not be deleted between this look and the run's own row.
    dataset = session.get(Dataset, dataset_id, with_for_update={"read": True})
    if dataset is None or dataset.owner != owner or dataset.deleted_at is not None:
        raise InvalidData(f"{param} names no dataset of yours: {dataset_id!r}.", param=param)
    return dataset


async def delete_run(*, services: Services, owner: str, run_id: str) -> None:
    """Remove a run that has ended, with its checkpoints and its model."""
    await asyncio.to_thread(
        _delete, database=services.database, storage=services.storage, owner=owner, run_id=run_id
    )
    services.feed.notify(run_id)
    try:
        for model in await services.inference.models():
            if is_engine_name_of(model.name, run_id):
                await services.inference.unload(model.name)
    except GenPlatError as error:
        log.info("The model of run %s may stay in memory for a while: %s", run_id, error.message)


def _delete(*, database: Database, storage: Storage, owner: str, run_id: str) -> None:
    try:
        with database.write() as session:
            run = owned_run(session, owner=owner, run_id=run_id, for_update=True)
            if run.status not in TERMINAL:
                raise Conflict(f"The run is {run.status}. Cancel it before you delete it.")
            served = session.exec(select(Deployment.name).where(Deployment.run_id == run_id))
            if (name := served.first()) is not None:
                raise Conflict(f"The deployment {name!r} serves this run. Delete that first.")
            if (new := _continued_by(session, owner, run_id)) is not None:
                raise Conflict(
                    f"The run {new} goes on from this one and has not ended. Cancel it, or wait "
                    "until it is done."
                )
            session.delete(run)
            session.flush()
            aside = set_aside(storage.run(run_id))
    except IntegrityError as error:
        raise Conflict("The run was deployed at this very moment.") from error
    remove(aside)


def _continued_by(session: Session, owner: str, run_id: str) -> str | None:
    live = select(Run).where(Run.owner == owner, col(Run.status).not_in(TERMINAL))
    for run in session.exec(live):
        origin = continued_run(FineTuneSpec.model_validate(run.spec))
        if origin is not None and origin.run_id == run_id:
            return run.id
    return None
