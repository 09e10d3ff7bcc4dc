"""`/api/routes`: the orchestrator's routes as JSON."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, field_validator
from starlette.concurrency import run_in_threadpool

from gateway.deps import ListDep, ListPublic, OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim
from gateway.orchestrator import routes
from gateway.orchestrator.drills import DrillSpec, Fault, active_drill, end_drill, start_drill
from gateway.orchestrator.routes import (
    RouteFallback,
    RouteRules,
    RouteShadow,
    RouteSpec,
    RouteTarget,
)
from gateway.orchestrator.routing import Balance, Sticky
from gateway.tables import now

router = APIRouter(prefix="/api/routes", tags=["routes"])


class DrillPublic(BaseModel):
    """A fault that is made of the answers of a route's targets, for now."""

    fault: Fault
    until: datetime


class RoutePublic(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    targets: list[RouteTarget]
    fallbacks: list[RouteFallback]
    sticky: Sticky | None
    balance: Balance
    shadow: RouteShadow | None
    drill: DrillPublic | None
    created_at: datetime
    updated_at: datetime

    @field_validator("drill", mode="before")
    @classmethod
    def _while_it_lasts(cls, drill: Any) -> Any:
        return active_drill(drill, now())


@router.post("", status_code=201, response_model=RoutePublic)
async def create_route(
    spec: RouteSpec, services: ServicesDep, owner: OwnerDep, once: OnceDep
) -> JSONResponse:
    """Put a name over deployments and upstreams: weighted targets, and fallbacks in order."""

    async def create(claim: Claim | None) -> RoutePublic:
        route = await run_in_threadpool(
            routes.create_route,
            database=services.database,
            owner=owner,
            spec=spec,
            upstreams=services.upstreams.upstreams,
            claim=claim,
        )
        return RoutePublic.model_validate(route)

    async def load(name: str) -> RoutePublic:
        route = routes.get_route(database=services.database, owner=owner, name=name)
        return RoutePublic.model_validate(route)

    return await once(create, load=load)


@router.get("")
def list_routes(services: ServicesDep, owner: OwnerDep, query: ListDep) -> ListPublic:
    page = routes.list_routes(
        database=services.database, owner=owner, after=query.after, limit=query.limit
    )
    return ListPublic(
        data=[RoutePublic.model_validate(route) for route in page.data], has_more=page.has_more
    )


@router.get("/{name}")
def get_route(name: str, services: ServicesDep, owner: OwnerDep) -> RoutePublic:
    route = routes.get_route(database=services.database, owner=owner, name=name)
    return RoutePublic.model_validate(route)


@router.put("/{name}")
def replace_route(
    name: str, rules: RouteRules, services: ServicesDep, owner: OwnerDep
) -> RoutePublic:
    route = routes.replace_route(
        database=services.database,
        owner=owner,
        name=name,
        rules=rules,
        upstreams=services.upstreams.upstreams,
    )
    return RoutePublic.model_validate(route)


@router.delete("/{name}", status_code=204)
def delete_route(name: str, services: ServicesDep, owner: OwnerDep) -> Response:
    routes.delete_route(database=services.database, owner=owner, name=name)
    return Response(status_code=204)


@router.post("/{name}/drill")
def drill_route(name: str, spec: DrillSpec, services: ServicesDep, owner: OwnerDep) -> RoutePublic:
    """Make the answers of the route's targets go wrong for a while, to see who steps in."""
    route = start_drill(database=services.database, owner=owner, name=name, spec=spec)
    return RoutePublic.model_validate(route)


@router.delete("/{name}/drill")
def stop_drill(name: str, services: ServicesDep, owner: OwnerDep) -> RoutePublic:
    """End a drill before its time."""
    route = end_drill(database=services.database, owner=owner, name=name)
    return RoutePublic.model_validate(route)
