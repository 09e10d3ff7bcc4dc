"""Runs: the list, and the page that watches one live."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from gateway import run_lists, run_views
from gateway.datasets import store
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.pages import run_panel
from gateway.pages.html import base_url, fragment, page
from gateway.pages.run_panel import elapsed
from gateway.tables import now
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
