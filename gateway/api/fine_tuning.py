"""`/v1/fine_tuning/jobs`: runs in the shape of OpenAI's fine-tuning jobs."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from gateway import runs
from gateway.deps import OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim
from gateway.openai_api import ids, job_checkpoints, job_events, jobs
from gateway.openai_api.job_body import JobRequest
from gateway.openai_api.job_checkpoints import JobCheckpoint
from gateway.openai_api.job_events import JobEvent
from gateway.openai_api.jobs import Job, MetadataFilter
from gateway.paging import DEFAULT_LIMIT, MAX_LIMIT
from shared.errors import InvalidRequest

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["OpenAI"])

_METADATA = re.compile(r"metadata\[(.*)\]", re.DOTALL)


class JobList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Job]
    has_more: bool


class EventList(BaseModel):
    object: Literal["list"] = "list"
    data: list[JobEvent]
    has_more: bool


class CheckpointList(BaseModel):
    object: Literal["list"] = "list"
    data: list[JobCheckpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool


@router.post("", response_model=Job)
async def create_job(
    body: JobRequest, services: ServicesDep, owner: OwnerDep, once: OnceDep
) -> JSONResponse:
    """Start a fine-tuning. Whatever OpenAI's fields do not say, `genplat` can."""

    async def create(claim: Claim | None) -> Job:
        return await jobs.create_job(services=services, owner=owner, body=body, claim=claim)

    async def load(run_id: str) -> Job:
        return await run_in_threadpool(get_job, ids.job_id(run_id), services, owner)

    return await once(create, status=200, load=load)


@router.get("")
def list_jobs(
    request: Request,
    services: ServicesDep,
    owner: OwnerDep,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
) -> JobList:
    """Newest first. `metadata[key]=value` finds jobs by their metadata, `metadata=null` those
    without."""
    page = jobs.list_jobs(
        database=services.database,
        owner=owner,
        after=after,
        limit=limit,
        metadata=_metadata_filter(request),
    )
    return JobList(data=page.data, has_more=page.has_more)


def _metadata_filter(request: Request) -> MetadataFilter | None:
    wanted: dict[str, str] = {}
    without = False
    for name, value in request.query_params.multi_items():
        if name == "metadata":
            if value != "null":
                raise InvalidRequest(
                    "metadata must be null here; to look for a value, write metadata[key]=value.",
                    param="metadata",
                )
            without = True
        elif (key := _METADATA.fullmatch(name)) is not None:
            wanted[key[1]] = value
    if without and wanted:
        raise InvalidRequest("metadata: ask for null or for values, not both.", param="metadata")
    return "null" if without else wanted or None


@router.get("/{job_id}")
def get_job(job_id: str, services: ServicesDep, owner: OwnerDep) -> Job:
    return jobs.get_job(database=services.database, owner=owner, job_id=job_id)


@router.post("/{job_id}/cancel")
async def cancel_job(job_id: str, services: ServicesDep, owner: OwnerDep) -> Job:
    """At once where it waits; a job that runs is stopped within a moment."""
    with jobs.run_behind(job_id) as run_id:
        await runs.cancel_run(services=services, owner=owner, run_id=run_id)
    return await run_in_threadpool(get_job, job_id, services, owner)


@router.post("/{job_id}/pause")
async def pause_job(job_id: str, services: ServicesDep, owner: OwnerDep) -> Job:
    """Save a checkpoint and leave the device to others; `resume` goes on from there."""
    with jobs.run_behind(job_id) as run_id:
        await runs.pause_run(services=services, owner=owner, run_id=run_id)
    return await run_in_threadpool(get_job, job_id, services, owner)


@router.post("/{job_id}/resume")
async def resume_job(job_id: str, services: ServicesDep, owner: OwnerDep) -> Job:
    with jobs.run_behind(job_id) as run_id:
        await runs.resume_run(services=services, owner=owner, run_id=run_id)
    return await run_in_threadpool(get_job, job_id, services, owner)


@router.get("/{job_id}/events")
def list_events(
    job_id: str,
    services: ServicesDep,
    owner: OwnerDep,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=job_events.MAX_LIMIT)] = job_events.DEFAULT_LIMIT,
) -> EventList:
    """What happened, newest first: each step and evaluation is an event of type `metrics`."""
    page = job_events.list_events(
        database=services.database, owner=owner, job_id=job_id, after=after, limit=limit
    )
    return EventList(data=page.data, has_more=page.has_more)


@router.get("/{job_id}/checkpoints")
def list_checkpoints(
    job_id: str,
    services: ServicesDep,
    owner: OwnerDep,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = job_checkpoints.DEFAULT_LIMIT,
) -> CheckpointList:
    """Those that are there, newest first, each callable under its name."""
    page = job_checkpoints.list_job_checkpoints(
        database=services.database, owner=owner, job_id=job_id, after=after, limit=limit
    )
    return CheckpointList(
        data=page.data,
        first_id=page.data[0].id if page.data else None,
        last_id=page.data[-1].id if page.data else None,
        has_more=page.has_more,
    )
