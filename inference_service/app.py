"""The inference service as a web application, and the program that runs it.

`build_app` takes its collaborators and connects to nothing; run it with
``python -m inference_service.app --host 127.0.0.1 --port 8002``.
"""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from transformers.utils.logging import disable_progress_bar

from inference_service.engine.engine import Engine
from inference_service.model_manager import ModelManager
from inference_service.plantuml.programs import find_programs
from inference_service.plantuml.renderer import LocalPictures, Pictures, Renderer
from inference_service.request_ids import RequestIds
from inference_service.routes import health, internal
from inference_service.service import InferenceService
from inference_service.settings import InferenceSettings
from shared.errors import GenPlatError, InvalidRequest, NotFound, Unavailable
from shared.logs import configure_logging
from shared.settings import read_settings
from shared.storage import Storage

RENDERER_RETRY_SECONDS = 30


def build_app(service: InferenceService, *, internal_token: str) -> FastAPI:
    """The application around a service; starts and stops it with its own life."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.engine.start()
        starting = asyncio.create_task(_start_renderer(service.renderer))
        try:
            yield
        finally:
            service.draining = True
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            try:
                await service.renderer.stop()
            finally:
                await asyncio.to_thread(service.engine.close)

    app = FastAPI(
        title="GenPlat inference",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.service = service
    app.state.internal_token = internal_token
    app.add_middleware(RequestIds)
    app.include_router(health)
    app.include_router(internal)
    app.add_exception_handler(GenPlatError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_error)
    app.add_exception_handler(Exception, _answer_error)
    return app


async def _start_renderer(renderer: Renderer) -> None:
    """Start it, and try again where it failed: the machine may just have been too busy."""
    while True:
        await renderer.start()
        if renderer.problem is None:
            return
        await asyncio.sleep(RENDERER_RETRY_SECONDS)


async def _answer_error(_: Request, error: Exception) -> JSONResponse:
    named = _named(error)
    headers = {"Retry-After": f"{named.retry_after:.0f}"} if named.retry_after else {}
    return JSONResponse(named.body(), named.status, headers)


def _named(error: Exception) -> GenPlatError:
    """Whatever was raised, as one of our own errors."""
    if isinstance(error, GenPlatError):
        return error
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return InvalidRequest("The body is not valid JSON.")
        place = [str(part) for part in first["loc"] if part not in ("body", "path", "query")]
        param = ".".join(place) or None
        return InvalidRequest(f"{param or 'The body'}: {first['msg']}", param=param)
    if isinstance(error, HTTPException):
        if error.status_code == 404:
            return NotFound("There is nothing at this address.")
        named = InvalidRequest(str(error.detail))
        named.status = error.status_code
        return named
    return GenPlatError("The service failed on this request; its log says why.")


def make_pictures(settings: InferenceSettings) -> Pictures:
    """The renderer that the settings ask for: a server where one is named, else our own Java."""
    if settings.plantuml_url:
        from inference_service.plantuml.server import ServerPictures

        return ServerPictures(settings.plantuml_url, timeout=settings.render_timeout_seconds)
    try:
        programs = find_programs(settings.java, settings.plantuml_jar)
    except Unavailable as error:
        return NoPictures(error.message)
    return LocalPictures(
        programs,
        timeout=settings.render_timeout_seconds,
        start_timeout=settings.render_start_seconds,
    )


class NoPictures:
    """Stands where no renderer can be had, and says why."""

    starts = 0

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def start(self) -> None:
        raise Unavailable(self._reason)

    async def stop(self) -> None:
        """Nothing is held."""

    async def draw(self, source: str, picture: str) -> bytes:  # noqa: ARG002
        raise Unavailable(self._reason)


def make_service(settings: InferenceSettings) -> InferenceService:
    """All collaborators, as the settings say."""
    torch.set_num_threads(settings.torch_threads)
    engine = Engine(
        max_rows=settings.max_rows,
        max_waiting=settings.max_waiting,
        kv_bytes=settings.kv_cache_bytes,
    )
    models = ModelManager(
        Storage(settings.root),
        engine,
        memory_bytes=settings.model_memory_bytes,
        unload_grace_seconds=settings.unload_grace_seconds,
    )
    renderer = Renderer(make_pictures(settings), cache_entries=settings.render_cache_entries)
    return InferenceService(engine, models, renderer)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="inference_service", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8002)
    arguments = parser.parse_args()
    settings = read_settings(InferenceSettings)
    configure_logging(settings.log_level, as_json=settings.log_json)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    app = build_app(
        make_service(settings), internal_token=settings.internal_token.get_secret_value()
    )
    uvicorn.run(
        app,
        host=arguments.host,
        port=arguments.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=int(settings.unload_grace_seconds) or 1,
    )


if __name__ == "__main__":
    main()
