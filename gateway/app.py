"""The gateway's app: every collaborator is made here and handed down; nothing connects at import.

Run as ``python -m gateway.app [--host HOST] [--port PORT]``.
"""

import argparse
import asyncio
import contextlib
import importlib
import logging
import pkgutil
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI
from starlette.staticfiles import StaticFiles

from gateway import keys, library
from gateway.api import docs, health
from gateway.auth import LoginLimit
from gateway.database import Database, make_engine
from gateway.deps import current_owner, page_owner
from gateway.errors import install_error_handlers
from gateway.limits import BodyLimit, Envelope, HostAllowList, RequestShape, SameOrigin
from gateway.migrations import UnusableDatabase, migrate
from gateway.run_feed import RunFeed
from gateway.services import Services
from gateway.settings import SQLITE_FILE, GatewaySettings
from gateway.telemetry import Measured, Telemetry
from shared import job_queue
from shared.errors import GenPlatError, Unavailable
from shared.logs import configure_logging
from shared.model_library import BUNDLED_MODEL
from shared.storage import Storage

log = logging.getLogger(__name__)

GRACEFUL_SECONDS = 3
RESTART_SECONDS = 1.0


def create_app(settings: GatewaySettings, *, services: Services | None = None) -> FastAPI:
    """The app. Tests hand in their own ``services``; otherwise they are made at the start."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.services = services or make_services(settings)
        try:
            await asyncio.to_thread(_prepare_database, app.state.services)
            async with _background(app.state.services):
                yield
        finally:
            if services is None:
                await _close(app.state.services)

    app = FastAPI(
        title="GenPlat", version="0.1.0", lifespan=lifespan,
        docs_url=None, redoc_url=None, openapi_url=None,
    )
    app.state.telemetry = Telemetry()
    app.state.login_limit = LoginLimit()
    install_error_handlers(app)
    _add_middlewares(app, settings)
    _include_routers(app)
    settings.static_dir.mkdir(exist_ok=True)
    app.mount("/static", StaticFiles(directory=settings.static_dir), name="static")
    return app


def make_services(settings: GatewaySettings) -> Services:
    """Connections by the settings. None of them is used before the first request."""
    from gateway.inference_client import InferenceClient

    settings.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not settings.database_url:
        # SQLite gives its log files the database's own rights.
        (settings.root / SQLITE_FILE).touch(mode=0o600)
    redis = job_queue.client(settings.redis_url)
    return Services(
        settings=settings,
        database=Database(make_engine(settings.sqlalchemy_url)),
        storage=Storage(settings.root),
        redis=redis,
        queue=job_queue.ArqQueue(redis),
        inference=InferenceClient(settings),
        feed=RunFeed(),
    )


async def _close(services: Services) -> None:
    await services.inference.close()
    await services.redis.aclose(close_connection_pool=True)
    services.database.close()


def _prepare_database(services: Services) -> None:
    migrate(services.database)
    keys.seed_admin_key(
        database=services.database, secret=services.settings.admin_key.get_secret_value()
    )


@contextlib.asynccontextmanager
async def _background(services: Services) -> AsyncIterator[None]:
    """The tasks that live as long as the app."""
    works = [_prepare_bundled_model]
    for name in ("projector", "reconciler"):
        with contextlib.suppress(ModuleNotFoundError):
            works.append(getattr(importlib.import_module(f"gateway.{name}"), f"run_{name}"))
    tasks = [asyncio.create_task(_kept_going(work, services)) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _kept_going(work: Callable[[Services], Coroutine[Any, Any, None]], services: Services) -> None:
    """Run ``work``; a fault that it did not foresee is logged and must not end it for good."""
    while True:
        try:
            await work(services)
            return
        except Exception:
            log.exception("%s failed; it starts again.", work.__name__)
            await asyncio.sleep(RESTART_SECONDS)


async def _prepare_bundled_model(services: Services) -> None:
    """At the first start, ask for the bundled model as soon as the queue can be reached."""
    while services.settings.prepare_bundled_model:
        try:
            await library.prepare(
                database=services.database, storage=services.storage, queue=services.queue,
                owner=keys.ADMIN_OWNER, model_id=BUNDLED_MODEL,
            )
            return
        except Unavailable:
            await asyncio.sleep(RESTART_SECONDS)


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


def _modules(package: str) -> list[Any]:
    try:
        found = importlib.import_module(package)
    except ModuleNotFoundError:
        return []
    return [importlib.import_module(f"{package}.{m.name}") for m in pkgutil.iter_modules(found.__path__)]


def _include_routers(app: FastAPI) -> None:
    for module in _modules("gateway.api"):
        if hasattr(module, "open_router"):
            app.include_router(module.open_router)
        if hasattr(module, "router"):
            guard = [] if module in (health, docs) else [Depends(current_owner)]
            app.include_router(module.router, dependencies=guard)
    for module in _modules("gateway.pages"):
        if hasattr(module, "open_router"):
            app.include_router(module.open_router)
        if hasattr(module, "router"):
            guard = [] if module.__name__.endswith("login") else [Depends(page_owner)]
            app.include_router(module.router, dependencies=guard)


def main(argv: list[str] | None = None) -> None:
    settings = GatewaySettings()
    parser = argparse.ArgumentParser(prog="python -m gateway.app", description=__doc__)
    parser.add_argument("--host", default=settings.host)
    parser.add_argument("--port", type=int, default=settings.port)
    options = parser.parse_args(argv)
    configure_logging(settings.log_level, as_json=settings.log_json)
    try:
        services = make_services(settings)
        _prepare_database(services)
    except (UnusableDatabase, GenPlatError) as error:
        sys.exit(f"genplat gateway: {error}")
    uvicorn.run(
        create_app(settings), host=options.host, port=options.port,
        # h11 alone limits the size of a request's head.
        http="h11", h11_max_incomplete_event_size=64 * 1024,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        log_config=None, access_log=False, server_header=False, proxy_headers=False,
    )


if __name__ == "__main__":
    main()
