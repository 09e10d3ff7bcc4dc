"""The gateway's app: every collaborator is made here and handed down; nothing connects at import.

Run as ``python -m gateway.app [--host HOST] [--port PORT]``.
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from fastapi import FastAPI
from pydantic import ValidationError
from starlette.staticfiles import StaticFiles

from gateway import background, keys
from gateway.auth import LoginLimit
from gateway.connections import UnusableQueue, check_queue_address, open_database
from gateway.database import Database
from gateway.errors import install_error_handlers
from gateway.inference_client import InferenceClient
from gateway.limits import BodyLimit, Envelope, HostAllowList, RequestShape, SameOrigin
from gateway.migrations import UnusableDatabase, migrate
from gateway.orchestrator.upstreams import read_upstreams
from gateway.rate_limits import RateLimits
from gateway.request_log.writer import RequestLog
from gateway.routers import include_routers
from gateway.run_feed import RunFeed
from gateway.server import serve
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.telemetry import Measured, Telemetry
from gateway.upstream_client import UpstreamClient
from shared import job_queue
from shared.errors import GenPlatError
from shared.logs import configure_logging
from shared.settings import wrong_settings
from shared.storage import Storage

DESCRIPTION = (
    "Send an API key as `Authorization: Bearer gp-…`. This page itself uses the session that you "
    "are logged in with. Creates take an `Idempotency-Key`."
)


def create_app(settings: GatewaySettings, *, services: Services | None = None) -> FastAPI:
    """The app. Without ``services`` it makes its own at the start and closes them at the end."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.services = services or make_services(settings)
        try:
            await asyncio.to_thread(_prepare, app.state.services.database, settings)
            async with background.running(app.state.services):
                yield
        finally:
            if services is None:
                await _close(app.state.services)

    app = FastAPI(
        title="GenPlat",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.telemetry = Telemetry()
    app.state.login_limit = LoginLimit()
    install_error_handlers(app)
    _add_middlewares(app, settings)
    include_routers(app)
    app.mount("/static", StaticFiles(directory=settings.static_dir), name="static")
    return app


def make_services(settings: GatewaySettings) -> Services:
    """Connections by the settings. None of them is used before the first request."""
    _make_folder(settings)
    redis = job_queue.client(settings.redis_url)
    database = open_database(settings)
    return Services(
        settings=settings,
        database=database,
        storage=Storage(settings.root),
        redis=redis,
        queue=job_queue.ArqQueue(redis),
        inference=InferenceClient(settings),
        upstreams=UpstreamClient(read_upstreams(settings.upstreams_file)),
        limits=RateLimits(redis),
        feed=RunFeed(),
        log=RequestLog(database, keeps=settings.request_log, masks=settings.request_log_masks),
    )


def _make_folder(settings: GatewaySettings) -> None:
    settings.root.mkdir(parents=True, exist_ok=True, mode=0o700)


def _prepare(database: Database, settings: GatewaySettings) -> None:
    admin_key = settings.admin_key.get_secret_value()
    keys.check_admin_key(admin_key)
    migrate(database)
    keys.seed_admin_key(database=database, secret=admin_key)


async def _close(services: Services) -> None:
    await services.inference.close()
    await services.upstreams.close()
    await services.redis.aclose(close_connection_pool=True)
    await asyncio.to_thread(services.database.close)


def _add_middlewares(app: FastAPI, settings: GatewaySettings) -> None:
    # The last added is the outermost.
    app.add_middleware(SameOrigin)
    app.add_middleware(
        BodyLimit, max_bytes=settings.max_body_bytes, max_upload_bytes=settings.max_upload_bytes
    )
    app.add_middleware(RequestShape)
    app.add_middleware(HostAllowList, hosts=settings.hosts)
    app.add_middleware(Envelope)
    app.add_middleware(Measured, telemetry=app.state.telemetry)


def _check(settings: GatewaySettings) -> None:
    """Find out before the server starts whether the database can be used, and the queue's address
    be read. (Whether a Redis answers there is no condition: it may come later.)"""
    check_queue_address(settings.redis_url)
    read_upstreams(settings.upstreams_file)
    _make_folder(settings)
    database = open_database(settings)
    try:
        _prepare(database, settings)
    finally:
        database.close()


def main(arguments: list[str] | None = None) -> None:
    try:
        settings = GatewaySettings()
    except ValidationError as error:
        sys.exit("\n".join(f"genplat gateway: {line}" for line in wrong_settings(error)))
    parser = argparse.ArgumentParser(prog="python -m gateway.app", description=__doc__)
    parser.add_argument("--host", default=settings.host)
    parser.add_argument("--port", type=int, default=settings.port)
    options = parser.parse_args(arguments)
    configure_logging(settings.log_level, as_json=settings.log_json)
    try:
        _check(settings)
    except (UnusableDatabase, UnusableQueue, GenPlatError, OSError) as error:
        sys.exit(f"genplat gateway: {error}")
    serve(create_app(settings), host=options.host, port=options.port)


if __name__ == "__main__":
    main()
