"""The trainer service: health, hardware and metrics over HTTP around the ARQ worker.

Started as ``python -m trainer_service.app --host HOST --port PORT``. Loads no torch: training,
preparing models and asking for hardware happen in child processes.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError

from shared.errors import GenPlatError, Unauthorized, Unavailable
from shared.logs import configure_logging
from shared.settings import read_settings
from shared.tasks import cancel_until_done
from trainer_service.announcing import announce_hardware
from trainer_service.child_process import child_environment
from trainer_service.settings import TrainerSettings
from trainer_service.telemetry import make_registry
from trainer_service.worker import TrainerWorker

log = logging.getLogger(__name__)

GRACEFUL_SECONDS = 3


class Hardware:
    """What `trainer_service.hardware` finds, asked once, in a child."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._found: dict[str, Any] | None = None

    async def describe(self) -> dict[str, Any]:
        async with self._lock:
            if self._found is None:
                self._found = await self._ask()
            return self._found

    async def _ask(self) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "trainer_service.hardware",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=child_environment(os.environ),
        )
        output, _ = await process.communicate()
        try:
            answer: dict[str, Any] = json.loads(output)
        except ValueError as error:
            raise Unavailable(
                "torch cannot be loaded here, so there is no hardware to name."
            ) from (error)
        return answer


def create_app(settings: TrainerSettings, worker: TrainerWorker) -> FastAPI:
    """The app, with the worker running as long as it does."""
    hardware = Hardware()

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(worker.run())
        _app.state.worker_task = task
        announcer = asyncio.create_task(
            announce_hardware(worker.redis, settings.worker_name, hardware.describe)
        )
        yield
        await worker.stop()
        await cancel_until_done([task, announcer])
        await worker.close()

    def authorize(authorization: Annotated[str, Header()] = "") -> None:
        expected = f"Bearer {settings.internal_token.get_secret_value()}"
        if not settings.internal_token.get_secret_value() or not secrets.compare_digest(
            authorization.encode(), expected.encode()
        ):
            raise Unauthorized("The internal token is missing or wrong.")

    app = FastAPI(
        title="GenPlat trainer", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.state.worker_task = None
    registry = make_registry(
        worker.figures,
        listening=lambda: worker.listening,
        busy=lambda: worker.supervisor is not None,
    )
    protected = [Depends(authorize)]

    @app.exception_handler(GenPlatError)
    async def show_error(_request: Request, error: GenPlatError) -> JSONResponse:
        return JSONResponse(error.body(), error.status)

    @app.get("/livez")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        await check_ready(worker, app.state.worker_task)
        return {"status": "ready"}

    @app.get("/hardware", dependencies=protected)
    async def show_hardware() -> dict[str, Any]:
        return await hardware.describe()

    @app.get("/metrics", dependencies=protected)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


async def check_ready(worker: TrainerWorker, task: "asyncio.Task[None] | None") -> None:
    if task is None or task.done() or worker.stopping:
        raise Unavailable("The worker is not running.")
    try:
        await worker.redis.ping()
    except (OSError, RedisError) as error:
        raise Unavailable("Redis cannot be reached.") from error
    if not worker.listening:
        raise Unavailable("The worker does not listen to the queue yet.")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m trainer_service.app")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8002)
    options = parser.parse_args(arguments)
    settings = read_settings(TrainerSettings)
    configure_logging(settings.log_level, as_json=settings.log_json)
    # uvicorn repeats a signal after it has shut down; without a handler that would be exit -15.
    signal.signal(signal.SIGTERM, lambda *_: None)
    app = create_app(settings, TrainerWorker(settings))
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
