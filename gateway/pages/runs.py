"""Runs: the list, and the page that watches one live."""

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from gateway import deployments, run_lists, run_views, runs
from gateway.datasets import store
from gateway.deployments import DeploymentSpec
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.pages import run_panel
from gateway.pages.html import base_url, fragment, page, see_other
from gateway.pages.run_panel import elapsed
from gateway.services import Services
from gateway.tables import now
from shared.errors import Conflict
from shared.runs import RunStatus

router = APIRouter(prefix="/runs", include_in_schema=False)


@router.get("")
def list_runs(
    services: ServicesDep,
    owner: PageOwnerDep,
    status: RunStatus | None = None,
    after: str | None = None,
) -> Response:
    asked: dict[str, Any] = {"database": services.database, "owner": owner}
    found = run_lists.listed_runs(**asked, status=status, after=after)
    return page(
        "runs/list.html",
        runs=found.data,
        has_more=found.has_more,
        state=status,
        counts=run_lists.run_counts(**asked),
        elapsed=lambda run: elapsed(run, now()),
        has_datasets=bool(store.list_datasets(**asked, limit=1).data),
    )


@router.get("/{run_id}")
def show_run(
    run_id: str,
    request: Request,
    services: ServicesDep,
    owner: PageOwnerDep,
    step: int | None = None,
) -> Response:
    """``step``: the evaluation whose samples are shown; the last one without it."""
    context = run_panel.run_context(services, owner, run_id, base_url(request), sample_step=step)
    return page(run_panel.TEMPLATE, **context)


@router.get("/{run_id}/samples")
def show_samples(
    run_id: str, services: ServicesDep, owner: PageOwnerDep, step: int | None = None
) -> Response:
    """The samples of one evaluation alone, for the page's step selector."""
    run = run_views.get_run(database=services.database, owner=owner, run_id=run_id)
    context = run_panel.samples_context(services, owner, run_id, step)
    return fragment(run_panel.TEMPLATE, "samples", run=run, **context)


async def _panel_slot(
    run_id: str, services: ServicesDep, owner: PageOwnerDep
) -> AsyncIterator[None]:
    """Refuse a stream while a status can still be sent, and count those that are open."""
    await run_in_threadpool(
        run_views.get_run, database=services.database, owner=owner, run_id=run_id
    )
    with services.feed.stream_slot(owner=owner, limit=services.settings.max_sse_streams):
        yield


@router.get(
    "/{run_id}/panel", response_class=EventSourceResponse, dependencies=[Depends(_panel_slot)]
)
async def watch_run(
    run_id: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> AsyncIterator[ServerSentEvent]:
    """The run's panel as HTML, whole each time; the first event is the present state."""
    events = run_panel.panel_events(services, owner, run_id, base_url(request))
    async for name, html in events:
        yield ServerSentEvent(event=name, raw_data=html)


@router.post("/{run_id}/cancel")
async def cancel_run(run_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    # Conflict: it ended while the button was on the way; its page tells how.
    with contextlib.suppress(Conflict):
        await runs.cancel_run(services=services, owner=owner, run_id=run_id)
    return see_other(f"/runs/{run_id}")


@router.post("/{run_id}/delete")
async def delete_run(run_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    await runs.delete_run(services=services, owner=owner, run_id=run_id)
    return see_other("/runs")


@router.post("/{run_id}/deploy")
async def deploy_run(run_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    """One click: under the run's own name, or that and a piece of its id where it is taken."""
    run = await run_in_threadpool(
        run_views.get_run, database=services.database, owner=owner, run_id=run_id
    )
    name = deployment_name(run.spec.get("suffix", ""), run.id)
    try:
        await _deploy(services, owner, name, run_id)
    except Conflict:
        name = f"{name}-{run.id[-4:]}"
        await _deploy(services, owner, name, run_id)
    return see_other(f"/deployments/{name}")


async def _deploy(services: Services, owner: str, name: str, run_id: str) -> None:
    spec = DeploymentSpec(name=name, model=run_id)
    await deployments.create_deployment(services=services, owner=owner, spec=spec)


def deployment_name(suffix: str, run_id: str) -> str:
    """A run's suffix as a name that programs may call."""
    name = re.sub(r"[^a-z0-9._-]+", "-", suffix.lower()).strip("-._")[:50]
    return name or f"run-{run_id[-8:]}"
