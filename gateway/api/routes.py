"""`/api/routes`: the orchestrator's routes as JSON."""

from datetime import datetime

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from gateway.deps import ListDep, ListPublic, OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim
from gateway.orchestrator import routes
from gateway.orchestrator.routes import RouteFallback, RouteRules, RouteSpec, RouteTarget

router = APIRouter(prefix="/api/routes", tags=["routes"])


class RoutePublic(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    targets: list[RouteTarget]
    fallbacks: list[RouteFallback]
    created_at: datetime
    updated_at: datetime


@router.post("", status_code=201, response_model=RoutePublic)
async def create_route(
    spec: RouteSpec, services: ServicesDep, owner: OwnerDep, once: OnceDep
) -> JSONResponse:
    """Put a name over deployments: weighted targets, and fallbacks in order."""

    async def create(claim: Claim | None) -> RoutePublic:
        route = await run_in_threadpool(
            routes.create_route, database=services.database, owner=owner, spec=spec, claim=claim
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
    route = routes.replace_route(database=services.database, owner=owner, name=name, rules=rules)
    return RoutePublic.model_validate(route)


@router.delete("/{name}", status_code=204)
def delete_route(name: str, services: ServicesDep, owner: OwnerDep) -> Response:
    routes.delete_route(database=services.database, owner=owner, name=name)
    return Response(status_code=204)
