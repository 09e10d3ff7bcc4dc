"""Loops: the list, the form (filled in so that one click begins one), and how one stands."""

import re
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from gateway import run_views
from gateway.datasets import store
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.evaluations.views import list_evaluations
from gateway.loops import views
from gateway.loops.spec import LoopSpec
from gateway.orchestrator.routes import list_routes
from gateway.pages.html import UNPROCESSABLE, fragment, no_problems, page, problems, see_other
from gateway.pages.model_choices import dataset_choice
from gateway.services import Services
from shared.errors import Conflict, GenPlatError

router = APIRouter(prefix="/loops", include_in_schema=False)

SHOWN = 100
FIELDS = (
    "dataset_id",
    "like_run",
    "like_evaluation",
    "baseline",
    "rules",
    "deployment",
    "route",
    "weight",
)


@router.get("")
def list_loops(services: ServicesDep, owner: PageOwnerDep, after: str | None = None) -> Response:
    found = views.list_loops(database=services.database, owner=owner, after=after)
    return page("loops/list.html", loops=found.data, has_more=found.has_more)


@router.get("/new")
def new_loop(
    services: ServicesDep, owner: PageOwnerDep, dataset_id: str = "", like_evaluation: str = ""
) -> Response:
    return _form(services, owner, {"dataset_id": dataset_id, "like_evaluation": like_evaluation})


@router.post("")
async def create_loop(request: Request, services: ServicesDep, owner: PageOwnerDep) -> Response:
    form = await request.form()
    values = {name: str(form.get(name, "")).strip() for name in FIELDS}
    given: dict[str, Any] = {name: text for name, text in values.items() if text}
    given["rules"] = [line.strip() for line in values["rules"].splitlines() if line.strip()]
    try:
        spec = LoopSpec.model_validate(given)
        made = await run_in_threadpool(views.create_loop, services=services, owner=owner, spec=spec)
    except (GenPlatError, ValidationError) as error:
        shown = problems(error, FIELDS)
        return await run_in_threadpool(_form, services, owner, values, UNPROCESSABLE, **shown)
    return see_other(f"/loops/{made.id}")


@router.get("/{loop_id}")
def show_loop(loop_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    found = views.get_loop(database=services.database, owner=owner, loop_id=loop_id)
    return page("loops/show.html", item=found, problem=None)


@router.get("/{loop_id}/progress")
def show_progress(loop_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    found = views.get_loop(database=services.database, owner=owner, loop_id=loop_id)
    return fragment("loops/show.html", "progress", item=found)


@router.post("/{loop_id}/cancel")
def cancel_loop(loop_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    try:
        views.cancel_loop(database=services.database, owner=owner, loop_id=loop_id)
    except Conflict as error:
        return _refused(services, owner, loop_id, error)
    return see_other(f"/loops/{loop_id}")


@router.post("/{loop_id}/delete")
def delete_loop(loop_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    try:
        views.delete_loop(database=services.database, owner=owner, loop_id=loop_id)
    except Conflict as error:
        return _refused(services, owner, loop_id, error)
    return see_other("/loops")


def _refused(services: Services, owner: str, loop_id: str, error: Conflict) -> Response:
    found = views.get_loop(database=services.database, owner=owner, loop_id=loop_id)
    return page("loops/show.html", status=error.status, item=found, problem=error.message)


def _form(
    services: Services, owner: str, values: dict[str, str], status: int = 200, **shown: Any
) -> Response:
    database = services.database
    datasets = store.list_datasets(database=database, owner=owner, limit=SHOWN).data
    runs = [
        run
        for run in run_views.list_runs(database=database, owner=owner, limit=SHOWN).data
        if run.status == "succeeded"
    ]
    evaluations = [
        one
        for one in list_evaluations(database=database, owner=owner, limit=SHOWN).data
        if one.status == "succeeded"
    ]
    metric = next((one.metrics[0] for one in evaluations), "rougeL")
    name = next((one.name for one in datasets if one.id == values.get("dataset_id")), "model")
    count = len([one for one in datasets if one.name == name])
    guessed = {
        "like_run": runs[0].id if runs else "",
        "like_evaluation": evaluations[0].id if evaluations else "",
        "rules": f"{metric} >= base",
        "deployment": f"{_slug(name)}-{count}",
        "weight": "100",
    }
    typed = {name: text for name, text in values.items() if text}
    filled = dict.fromkeys(FIELDS, "") | guessed | typed
    routes = list_routes(database=database, owner=owner, limit=SHOWN).data
    return page(
        "loops/new.html",
        status=status,
        values=filled,
        datasets=[dataset_choice(one) for one in datasets],
        runs=[(run.id, _run_name(run)) for run in runs],
        evaluations=[(one.id, f"{one.name}, {one.created_at:%d %b %H:%M}") for one in evaluations],
        routes=[(one.name, one.name) for one in routes],
        **(no_problems() | shown),
    )


def _run_name(run: run_views.RunView) -> str:
    return f"{run.spec.get('suffix') or run.id}, {run.created_at:%d %b %H:%M}"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50] or "model"
