"""`/api/runs`: fine-tuning runs as JSON, and their events as a stream."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from gateway import run_stream, run_views, runs
from gateway.deps import ListDep, ListPublic, OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim
from gateway.run_story import run_story
from shared.runs import FineTuneSpec

router = APIRouter(prefix="/api/runs", tags=["runs"])


class MetricPublic(BaseModel):
    """One optimizer step."""

    model_config = ConfigDict(from_attributes=True)

    step: int
    epoch: float
    loss: float | None
    eval_loss: float | None
    mean_token_accuracy: float | None
    eval_mean_token_accuracy: float | None
    learning_rate: float | None
    grad_norm: float | None
    tokens_per_second: float | None
    memory_bytes: int | None


class LogLinePublic(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    time: datetime
    level: str
    message: str
    attempt: int


@router.post("", status_code=202, response_model=run_views.RunView)
async def create_run(
    spec: FineTuneSpec, services: ServicesDep, owner: OwnerDep, once: OnceDep
) -> JSONResponse:
    """Start a fine-tuning."""

    async def create(claim: Claim | None) -> run_views.RunView:
        return await runs.create_run(services=services, owner=owner, spec=spec, claim=claim)

    async def load(run_id: str) -> run_views.RunView:
        return run_views.get_run(database=services.database, owner=owner, run_id=run_id)

    return await once(create, status=202, load=load)


@router.get("")
def list_runs(services: ServicesDep, owner: OwnerDep, query: ListDep) -> ListPublic:
    page = run_views.list_runs(
        database=services.database, owner=owner, after=query.after, limit=query.limit
    )
    return ListPublic(data=page.data, has_more=page.has_more)


@router.get("/{run_id}")
def get_run(run_id: str, services: ServicesDep, owner: OwnerDep) -> run_views.RunView:
    return run_views.get_run(database=services.database, owner=owner, run_id=run_id)


@router.delete("/{run_id}", status_code=204)
async def delete_run(run_id: str, services: ServicesDep, owner: OwnerDep) -> Response:
    """Remove a run that has ended, with its checkpoints and its model."""
    await runs.delete_run(services=services, owner=owner, run_id=run_id)
    return Response(status_code=204)


@router.post("/{run_id}/cancel")
async def cancel_run(run_id: str, services: ServicesDep, owner: OwnerDep) -> run_views.RunView:
    return await runs.cancel_run(services=services, owner=owner, run_id=run_id)


@router.post("/{run_id}/pause")
async def pause_run(run_id: str, services: ServicesDep, owner: OwnerDep) -> run_views.RunView:
    """Free the device; what was learned is saved."""
    return await runs.pause_run(services=services, owner=owner, run_id=run_id)


@router.post("/{run_id}/resume")
async def resume_run(run_id: str, services: ServicesDep, owner: OwnerDep) -> run_views.RunView:
    """Go on with a paused run at the step where it was."""
    return await runs.resume_run(services=services, owner=owner, run_id=run_id)


@router.post("/{run_id}/stop")
async def stop_run(run_id: str, services: ServicesDep, owner: OwnerDep) -> run_views.RunView:
    """End a run after the step under way, and keep what it learned as its model."""
    return await runs.stop_run(services=services, owner=owner, run_id=run_id)


@router.get("/{run_id}/checkpoints")
def list_checkpoints(
    run_id: str, services: ServicesDep, owner: OwnerDep, query: ListDep
) -> ListPublic:
    """The steps whose weights were kept, newest first; ``after`` is a step."""
    page = run_views.list_checkpoints(
        database=services.database,
        owner=owner,
        run_id=run_id,
        after=query.after,
        limit=query.limit,
    )
    return ListPublic(data=page.data, has_more=page.has_more)


@router.get("/{run_id}/metrics")
def run_metrics(run_id: str, services: ServicesDep, owner: OwnerDep) -> ListPublic:
    """Every optimizer step so far."""
    rows = run_views.run_metrics(database=services.database, owner=owner, run_id=run_id)
    return ListPublic(data=[MetricPublic.model_validate(row) for row in rows], has_more=False)


@router.get("/{run_id}/log")
def run_log(run_id: str, services: ServicesDep, owner: OwnerDep) -> ListPublic:
    """What happened, in lines for people."""
    lines = run_story(database=services.database, owner=owner, run_id=run_id)
    return ListPublic(data=[LogLinePublic.model_validate(line) for line in lines], has_more=False)


async def stream_slot(run_id: str, services: ServicesDep, owner: OwnerDep) -> AsyncIterator[None]:
    """Refuse what cannot be streamed while a status can still be sent, and count what is."""
    await run_in_threadpool(
        run_views.get_run, database=services.database, owner=owner, run_id=run_id
    )
    with services.feed.stream_slot(owner=owner, limit=services.settings.max_sse_streams):
        yield


@router.get(
    "/{run_id}/events", response_class=EventSourceResponse, dependencies=[Depends(stream_slot)]
)
async def run_events(
    run_id: str,
    services: ServicesDep,
    owner: OwnerDep,
    last_event_id: Annotated[str | None, Header()] = None,
) -> AsyncIterator[ServerSentEvent]:
    """The run as server-sent events: its whole `state` first, then `metrics`, `sample`,
    `checkpoint`, each line of the `log` and each new `state`; ends after the final one. Resumes
    behind Last-Event-ID."""
    items = run_stream.follow_run(
        services=services, owner=owner, run_id=run_id, last_id=last_event_id
    )
    async for item in items:
        yield ServerSentEvent(event=item.event, data=item.data, id=item.id)
