"""Whether the gateway lives, whether it can work, and its metrics."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from gateway import telemetry
from gateway.database import Database
from gateway.deps import ServicesDep, metrics_reader
from gateway.services import Services

CHECK_SECONDS = 1.5
State = Literal["ok", "down"]

router = APIRouter(tags=["health"])


class Checks(BaseModel):
    database: State
    redis: State
    inference: State
    renderer: State


class Readiness(BaseModel):
    """Ready means that requests are answered, which takes the database alone. Without Redis runs
    are accepted and wait; without the inference service everything but generation works, and
    without its renderer everything but diagrams."""

    status: Literal["ready", "not_ready"]
    checks: Checks


@router.get("/livez")
async def live() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"model": Readiness}})
async def ready(services: ServicesDep, response: Response) -> Readiness:
    database, redis, (inference, renderer) = await asyncio.gather(
        _check_database(services.database), _check_redis(services), _check_inference(services)
    )
    if database != "ok":
        response.status_code = 503
    return Readiness(
        status="ready" if database == "ok" else "not_ready",
        checks=Checks(database=database, redis=redis, inference=inference, renderer=renderer),
    )


@router.get("/metrics", dependencies=[Depends(metrics_reader)], include_in_schema=False)
def metrics(request: Request, services: ServicesDep) -> Response:
    exposition = request.app.state.telemetry.render(services)
    return Response(exposition, media_type=telemetry.CONTENT_TYPE)


async def _check_database(database: Database) -> State:
    def ask() -> None:
        with database.read() as session:
            session.connection().execute(text("SELECT 1"))

    try:
        await asyncio.wait_for(run_in_threadpool(ask), CHECK_SECONDS)
    except (SQLAlchemyError, TimeoutError):
        return "down"
    return "ok"


async def _check_redis(services: Services) -> State:
    try:
        await asyncio.wait_for(services.redis.ping(), CHECK_SECONDS)
    except (RedisError, OSError, TimeoutError):
        return "down"
    return "ok"


async def _check_inference(services: Services) -> tuple[State, State]:
    """The inference service, and its renderer."""
    try:
        said = await asyncio.wait_for(services.inference.readiness(), CHECK_SECONDS)
    except TimeoutError:
        said = None
    if said is None:
        return "down", "down"
    return "ok", "down" if "renderer" in said else "ok"
