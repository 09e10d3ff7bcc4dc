"""Runs as OpenAI's fine-tuning jobs, wherever they were started. Knows no HTTP."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel
from sqlmodel import select

from gateway import run_views, runs
from gateway.database import Database
from gateway.idempotency import Claim
from gateway.openai_api import ids
from gateway.openai_api.job_body import JobRequest
from gateway.openai_api.job_requests import in_openai_words, read_request
from gateway.paging import DEFAULT_LIMIT, MAX_LIMIT, Page, paginate
from gateway.services import Services
from gateway.tables import Run, now
from shared.errors import InvalidRequest, NotFound
from shared.runs import TERMINAL, Auto

ORGANIZATION = "genplat"


class JobError(BaseModel):
    code: str
    message: str
    param: str | None = None


class ShownHyperparameters(BaseModel):
    """What was asked for; the numbers once they are decided. ``learning_rate_multiplier`` is None
    for a job whose learning rate was given itself, and ``n_epochs`` is rounded up: OpenAI's client
    knows no half epochs."""

    n_epochs: int | Auto
    batch_size: int | Auto
    learning_rate_multiplier: float | Auto | None


class ShownSupervised(BaseModel):
    hyperparameters: ShownHyperparameters


class ShownMethod(BaseModel):
    type: Literal["supervised"] = "supervised"
    supervised: ShownSupervised


class Job(BaseModel):
    """`fine_tuning.job`; times are Unix seconds."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str = ORGANIZATION
    status: str
    hyperparameters: ShownHyperparameters
    method: ShownMethod
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    error: JobError | None
    seed: int
    integrations: list[Any] = []
    metadata: dict[str, str] | None


def job_of(run: Run) -> Job:
    spec, shown = run.spec, _hyperparameters(run)
    validation = spec.get("validation_dataset_id")
    return Job(
        id=ids.job_id(run.id),
        created_at=seconds(run.created_at),
        finished_at=seconds(run.finished_at) if run.finished_at else None,
        estimated_finish=_estimated_finish(run),
        model=_kept(run).get("model") or run.base_model,
        fine_tuned_model=run.fine_tuned_model,
        status=run.status,
        hyperparameters=shown,
        method=ShownMethod(supervised=ShownSupervised(hyperparameters=shown)),
        training_file=ids.file_id(run.dataset_id),
        validation_file=ids.file_id(validation) if validation else None,
        result_files=[ids.file_id(run.id)] if run.status == "succeeded" else [],
        trained_tokens=run.trained_tokens if run.status in TERMINAL else None,
        error=(
            JobError(code=run.error_code, message=run.error_message or "")
            if run.status == "failed" and run.error_code
            else None
        ),
        seed=spec["seed"],
        metadata=_kept(run).get("metadata"),
    )


def seconds(time: datetime) -> int:
    return int(time.timestamp())


def _kept(run: Run) -> dict[str, Any]:
    return run.openai or {}


def _estimated_finish(run: Run) -> int | None:
    if run.status != "running" or run.eta_seconds is None:
        return None
    return seconds(now() + timedelta(seconds=run.eta_seconds))


def _hyperparameters(run: Run) -> ShownHyperparameters:
    spec, decided = run.spec, run.hyperparameters or {}
    multiplier = _kept(run).get("learning_rate_multiplier")
    if multiplier is None and spec.get("learning_rate", "auto") == "auto":
        multiplier = 1.0 if decided else "auto"

    def number(name: str) -> Any:
        return decided.get(name, spec.get(name, "auto"))

    epochs = number("num_train_epochs")
    return ShownHyperparameters(
        n_epochs=epochs if epochs == "auto" else math.ceil(epochs),
        batch_size=number("per_device_train_batch_size"),
        learning_rate_multiplier=multiplier,
    )


@contextmanager
def run_behind(job: str) -> Iterator[str]:
    """The id of the run behind a job; a run that is not there is told of as a job."""
    run = ids.run_id(job)
    try:
        yield run
    except NotFound as error:
        raise ids.no_job(job) from error


def get_job(*, database: Database, owner: str, job_id: str) -> Job:
    with run_behind(job_id) as run_id, database.read() as session:
        return job_of(run_views.owned_run(session, owner=owner, run_id=run_id))


async def create_job(
    *, services: Services, owner: str, body: JobRequest, claim: Claim | None = None
) -> Job:
    """Start a run as ``body`` asks."""
    spec, kept = await asyncio.to_thread(
        read_request,
        database=services.database,
        storage=services.storage,
        owner=owner,
        body=body,
    )
    with in_openai_words():
        run = await runs.create_run(
            services=services, owner=owner, spec=spec, claim=claim, openai=kept
        )
    return await asyncio.to_thread(
        get_job, database=services.database, owner=owner, job_id=ids.job_id(run.id)
    )


MetadataFilter = dict[str, str] | Literal["null"]


def list_jobs(
    *,
    database: Database,
    owner: str,
    after: str | None = None,
    limit: int = DEFAULT_LIMIT,
    metadata: MetadataFilter | None = None,
) -> Page[Job]:
    """Newest first. ``metadata``: only jobs with these values, or ("null") without any."""
    found: list[Run] = []
    for run in _newest_first(database, owner, after):
        if _has(run, metadata):
            found.append(run)
        if len(found) > limit:
            break
    return Page([job_of(run) for run in found[:limit]], has_more=len(found) > limit)


def _has(run: Run, wanted: MetadataFilter | None) -> bool:
    metadata = _kept(run).get("metadata") or {}
    if wanted == "null":
        return not metadata
    return (wanted or {}).items() <= metadata.items()


def _newest_first(database: Database, owner: str, after: str | None) -> Iterator[Run]:
    """All runs behind ``after``, read as they are asked for."""
    cursor = _cursor(after)
    with database.read() as session:
        while True:
            try:
                page = paginate(
                    session=session,
                    query=select(Run).where(Run.owner == owner),
                    table=Run,
                    key=Run.id,
                    after=cursor,
                    limit=MAX_LIMIT,
                )
            except InvalidRequest as error:
                raise ids.unknown_cursor(after or "") from error
            yield from page.data
            if not page.has_more:
                return
            cursor = page.data[-1].id


def _cursor(after: str | None) -> str | None:
    try:
        return None if after is None else ids.run_id(after)
    except NotFound as error:
        raise ids.unknown_cursor(after or "") from error
