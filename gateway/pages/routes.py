"""Routes: public model names over deployments, made and changed in one form."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from gateway import deployments
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.orchestrator import routes
from gateway.orchestrator.drills import (
    LONGEST_SECONDS,
    DrillSpec,
    Fault,
    active_drill,
    end_drill,
    start_drill,
)
from gateway.orchestrator.routes import RouteRules, RouteSpec
from gateway.pages.html import UNPROCESSABLE, base_url, no_problems, page, problems, see_other
from gateway.pages.readiness import readiness_of
from gateway.services import Services
from gateway.tables import Route, now
from shared.errors import GenPlatError
from shared.route_labels import UPSTREAM_PREFIX
from ui import route_form
from ui.snippets import chat_snippets

router = APIRouter(prefix="/routes", include_in_schema=False)

FORM_FIELDS = (
    "name", "target", "weight", "seconds", "fallback", "fallback_seconds", "choice",
    "shadow", "shadow_share",
)  # fmt: skip
PROBLEM_FIELDS = ("name", "targets", "fallbacks", "choice", "shadow")
FAULTS_IN_WORDS = {
    "cut": "streams break off",
    "stall": "streams fall silent",
    "429": "too many requests (429)",
    "500": "errors (500)",
}


@router.get("")
def list_routes(services: ServicesDep, owner: PageOwnerDep, after: str | None = None) -> Response:
    found = routes.list_routes(database=services.database, owner=owner, after=after)
    serving = deployments.list_deployments(database=services.database, owner=owner, limit=1)
    return page(
        "routes/list.html",
        routes=found.data,
        drilled=[route.name for route in found.data if active_drill(route.drill, now())],
        on_trial=routes.on_trial(
            database=services.database, names=[route.name for route in found.data]
        ),
        has_more=found.has_more,
        has_deployments=bool(serving.data),
    )


@router.get("/new")
def new_route(request: Request, services: ServicesDep, owner: PageOwnerDep) -> Response:
    return _form(request, services, owner, route_form.values_of("", [], []))


@router.post("")
async def create_route(request: Request, services: ServicesDep, owner: PageOwnerDep) -> Response:
    values = await _submitted(request)

    def create() -> Route:
        spec = RouteSpec.model_validate(route_form.parse(values))
        return routes.create_route(
            database=services.database,
            owner=owner,
            spec=spec,
            upstreams=services.upstreams.upstreams,
        )

    try:
        made = await run_in_threadpool(create)
    except (GenPlatError, ValidationError) as error:
        return await run_in_threadpool(_form, request, services, owner, values, error=error)
    return see_other(f"/routes/{made.name}")


@router.get("/{name}")
def show_route(name: str, request: Request, services: ServicesDep, owner: PageOwnerDep) -> Response:
    route = routes.get_route(database=services.database, owner=owner, name=name)
    values = route_form.values_of(
        name, route.targets, route.fallbacks, route.sticky, route.balance, route.shadow
    )
    return _form(request, services, owner, values, name)


@router.post("/{name}")
async def replace_route(
    name: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    values = await _submitted(request)

    def replace() -> None:
        parsed = route_form.parse(values)
        del parsed["name"]
        rules = RouteRules.model_validate(parsed)
        routes.replace_route(
            database=services.database,
            owner=owner,
            name=name,
            rules=rules,
            upstreams=services.upstreams.upstreams,
        )

    try:
        await run_in_threadpool(replace)
    except (GenPlatError, ValidationError) as error:
        return await run_in_threadpool(_form, request, services, owner, values, name, error)
    return see_other(f"/routes/{name}")


@router.post("/{name}/delete")
def delete_route(name: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    routes.delete_route(database=services.database, owner=owner, name=name)
    return see_other("/routes")


@router.post("/{name}/drill")
def drill_route(
    name: str,
    services: ServicesDep,
    owner: PageOwnerDep,
    fault: Annotated[Fault, Form()],
    seconds: Annotated[int, Form(ge=1, le=LONGEST_SECONDS)] = 60,
) -> Response:
    spec = DrillSpec(fault=fault, seconds=seconds)
    start_drill(database=services.database, owner=owner, name=name, spec=spec)
    return see_other(f"/routes/{name}#drill-title")


@router.post("/{name}/drill/end")
def end_drill_of_route(name: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    end_drill(database=services.database, owner=owner, name=name)
    return see_other(f"/routes/{name}#drill-title")


async def _submitted(request: Request) -> dict[str, Any]:
    form = await request.form()
    texts = {
        field: [value for value in form.getlist(field) if isinstance(value, str)]
        for field in FORM_FIELDS
    }
    return route_form.submitted_values(**texts)


def _drill(services: Services, owner: str, name: str) -> dict[str, Any] | None:
    route = routes.get_route(database=services.database, owner=owner, name=name)
    drill = active_drill(route.drill, now())
    if drill is None:
        return None
    return {"fault": drill["fault"], "until": datetime.fromisoformat(drill["until"])}


def _form(
    request: Request,
    services: Services,
    owner: str,
    values: dict[str, Any],
    name: str | None = None,
    error: GenPlatError | ValidationError | None = None,
) -> Response:
    if isinstance(error, GenPlatError) and error.status == 404:
        raise error
    serving = deployments.list_deployments(database=services.database, owner=owner, limit=100)
    shown = problems(error, PROBLEM_FIELDS) if error else no_problems()
    return page(
        "routes/edit.html",
        status=UNPROCESSABLE if error else 200,
        name=name,
        deployments=[found.name for found in serving.data],
        upstreams=[f"{UPSTREAM_PREFIX}{upstream}" for upstream in services.upstreams.upstreams],
        drill=_drill(services, owner, name) if name else None,
        faults=FAULTS_IN_WORDS,
        values=values,
        snippets=chat_snippets(base_url(request), name) if name else [],
        what_runs=routes.what_runs(database=services.database, name=name) if name else None,
        **(readiness_of(services, owner, name) if name else {"readiness": None}),
        **shown,
    )
