"""The wire: parse, call the service, shape the answer. Nothing is decided here."""

import asyncio
import hmac
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from inference_service.engine.prompts import as_messages
from inference_service.openai_shapes import (
    Envelope,
    Kind,
    envelope,
    finished_stream,
    stream_diagram,
    stream_text,
    whole_diagram,
    whole_text,
)
from inference_service.service import InferenceService
from shared.chat import (
    SERVED_AS_HEADER,
    ChatRequest,
    CompletionRequest,
    DiagramRequest,
    GenerationParameters,
    LikelihoodQuestion,
    ModelRef,
)
from shared.diagrams import RenderedDiagram
from shared.errors import Unauthorized, Unavailable

_Result = TypeVar("_Result")


def _service(request: Request) -> InferenceService:
    service: InferenceService = request.app.state.service
    return service


def _check_token(request: Request, authorization: Annotated[str, Header()] = "") -> None:
    expected = f"Bearer {request.app.state.internal_token}"
    given = authorization.encode(errors="replace")
    if not request.app.state.internal_token or not hmac.compare_digest(given, expected.encode()):
        raise Unauthorized("This service answers GenPlat's own services only.")


Service = Annotated[InferenceService, Depends(_service)]
ServedAs = Annotated[str | None, Header(alias=SERVED_AS_HEADER, max_length=500)]

health = APIRouter()
internal = APIRouter(dependencies=[Depends(_check_token)])


@health.get("/livez")
async def livez() -> dict[str, str]:
    return {"status": "ok"}


@health.get("/readyz")
async def readyz(service: Service) -> dict[str, str]:
    if service.problem:
        raise Unavailable(service.problem, retry_after=2)
    if service.renderer.problem:
        return {"status": "ok", "renderer": service.renderer.problem}
    return {"status": "ok"}


@internal.get("/metrics")
async def metrics(service: Service) -> Response:
    return Response(service.telemetry.exposition(), media_type="text/plain; version=0.0.4")


@internal.get("/models")
async def list_models(service: Service) -> dict[str, Any]:
    """What is loaded, and how many requests are answered at once (``capacity``)."""
    data = [model.model_dump(mode="json") for model in service.models.models()]
    return {"object": "list", "data": data, "capacity": service.engine.max_rows}


@internal.put("/models/{name:path}")
async def put_model(name: str, ref: ModelRef, service: Service) -> dict[str, Any]:
    return (await service.models.put(name, ref)).model_dump(mode="json")


@internal.delete("/models/{name:path}", status_code=204)
async def delete_model(name: str, service: Service) -> None:
    await service.models.delete(name)


@internal.post("/v1/chat/completions")
async def chat(
    request: Request, body: ChatRequest, service: Service, served_as: ServedAs = None
) -> Response:
    head = _head("chat", body, served_as)
    if body.diagram is None:
        chunks = service.chat(body)
        if body.stream:
            return await _stream(stream_text(head, chunks))
        return await _whole(request, whole_text(head, chunks))
    events = service.draw(body, as_messages(body.messages), body.diagram.max_attempts)
    if body.stream:
        return await _stream(stream_diagram(head, events))
    return await _whole(request, whole_diagram(head, events))


@internal.post("/v1/completions")
async def complete(
    request: Request, body: CompletionRequest, service: Service, served_as: ServedAs = None
) -> Response:
    head = _head("text", body, served_as)
    if body.stream:
        return await _stream(stream_text(head, service.complete(body)))
    return await _whole(request, whole_text(head, service.complete(body)))


@internal.post("/likelihood")
async def likelihood(request: Request, body: LikelihoodQuestion, service: Service) -> Response:
    async def found() -> dict[str, Any]:
        return (await service.likelihood(body)).model_dump()

    return await _whole(request, found())


@internal.post("/diagrams")
async def diagram(request: Request, body: DiagramRequest, service: Service) -> Response:
    async def drawn() -> dict[str, Any]:
        result: RenderedDiagram = await service.diagram(body)
        return result.model_dump(mode="json")

    return await _whole(request, drawn())


def _head(kind: Kind, body: GenerationParameters, served_as: str | None) -> Envelope:
    include_usage = body.stream_options is not None and body.stream_options.include_usage
    return envelope(kind, served_as or body.model, include_usage=include_usage)


async def _stream(events: AsyncGenerator[str, None]) -> StreamingResponse:
    """Server-sent events. The first one is waited for, so that a refusal still has a status."""
    first = await anext(events)

    async def lines() -> AsyncGenerator[str, None]:
        async with aclosing(finished_stream(events)) as rest:
            yield first
            async for line in rest:
                yield line

    return StreamingResponse(
        lines(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _whole(request: Request, work: Coroutine[Any, Any, dict[str, Any]]) -> JSONResponse:
    """One JSON body; the work stops when the client leaves before it is done."""
    return JSONResponse(await _while_connected(request, work))


async def _while_connected(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Unavailable("The client has left.", code="client_left")
        return task.result()
    finally:
        for pending in (task, gone):
            pending.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
