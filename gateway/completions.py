"""Chat and text completions: passed to a model that answers, whole or as a stream of bytes.

Knows no HTTP. Bytes of a stream are passed on as they are, except in diagram mode, where the
drawing in the last chunk is stored and replaced by its addresses.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from gateway import upstream_drawing
from gateway.closing import Stream
from gateway.completion_requests import Request, asker_of, body_of, draws_diagram, path_of
from gateway.diagrams import store_diagram
from gateway.orchestrator.answer_reader import event_of
from gateway.orchestrator.drills import made_error
from gateway.orchestrator.plans import Target
from gateway.relay import broken_off, open_stream
from gateway.request_log.entries import NOWHERE, Origin
from gateway.services import Services
from gateway.serving import able_to_answer, offer_to_shadow, plan_for, serve
from shared.chat import ChatMessage, ChatRequest
from shared.diagrams import RenderedDiagram
from shared.errors import GenPlatError, Unavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompletionAnswer:
    """A whole answer: OpenAI's body, and headers that tell who gave it."""

    body: dict[str, Any]
    headers: dict[str, str]


async def complete(
    *, services: Services, owner: str, request: Request, origin: Origin = NOWHERE
) -> CompletionAnswer:
    """The whole answer to a chat or completion request."""

    async def ask(target: Target) -> dict[str, Any]:
        if target.fault is not None:
            raise made_error(target.fault)
        body, path = body_of(request), path_of(request)
        if target.upstream is None:
            own = body | {"model": target.engine_name}
            return await services.inference.complete(path, own, served_as=request.model)
        if isinstance(request, ChatRequest) and draws_diagram(request):
            answer = await upstream_drawing.draw(
                upstreams=services.upstreams,
                inference=services.inference,
                upstream=target.upstream,
                request=request,
            )
        else:
            answer = await services.upstreams.complete(target.upstream, path, body)
        return answer | {"model": request.model}

    with services.log.recorded(owner, request, origin) as entry:
        plan = await plan_for(
            services=services, owner=owner, model=request.model, asker=asker_of(request)
        )
        entry.planned(plan)
        plan = able_to_answer(plan, request)
        served = await serve(services=services, owner=owner, plan=plan, ask=ask)
        entry.served(served.target.label, served.fallbacks, served.reason)
        entry.answer = served.result
        served.visit.succeeded()
        if draws_diagram(request):
            for choice in served.result.get("choices", []):
                await _publish(services, owner, request.model, choice.get("message") or {})
    offer_to_shadow(services, owner, plan, request, entry)
    return CompletionAnswer(served.result, served.headers | entry.headers)


async def stream(
    *, services: Services, owner: str, request: Request, origin: Origin = NOWHERE
) -> tuple[dict[str, str], Stream]:
    """The headers and the bytes of a streamed answer. It returns after the first bytes came."""
    headers, events = await open_stream(
        services=services, owner=owner, request=request, origin=origin
    )
    if draws_diagram(request):
        drawn = _with_diagrams(services, owner, request.model, events)
        return headers, Stream(drawn, events.aclose)
    return headers, events


async def _with_diagrams(
    services: Services, owner: str, model: str, chunks: Stream
) -> AsyncGenerator[bytes, None]:
    """The same stream with its drawing stored; every other event is passed on untouched."""
    try:
        async for events in chunks:
            for event in events.split(b"\n\n")[:-1]:
                yield await _with_public_diagram(services, owner, model, event) + b"\n\n"
    except GenPlatError as error:
        yield broken_off(error)
    except (OSError, SQLAlchemyError):
        log.exception("A drawing could not be stored.")
        yield broken_off(Unavailable("The drawing was made but could not be stored."))


async def _with_public_diagram(services: Services, owner: str, model: str, event: bytes) -> bytes:
    if b'"diagram"' not in event or not event.startswith(b"data:"):
        return event
    try:
        data = json.loads(event.removeprefix(b"data:"))
        deltas = [choice["delta"] for choice in data["choices"]]
    except (ValueError, KeyError, TypeError):
        return event
    for delta in deltas:
        await _publish(services, owner, model, delta)
    return event_of(data).rstrip(b"\n")


async def _publish(services: Services, owner: str, model: str, message: dict[str, Any]) -> None:
    """Store the drawing that a message carries and put its addresses in its place."""
    if not message.get("diagram"):
        return
    drawing = RenderedDiagram.model_validate(message["diagram"])
    view = await asyncio.to_thread(
        store_diagram,
        database=services.database,
        storage=services.storage,
        owner=owner,
        model=model,
        drawing=drawing,
    )
    message["diagram"] = view.model_dump(mode="json", exclude={"source"})


async def predict(
    *,
    services: Services,
    owner: str,
    model: str,
    inputs: list[str],
    parameters: dict[str, Any],
    origin: Origin = NOWHERE,
) -> CompletionAnswer:
    """Answer each input by itself, all at once: the engine answers them as a batch."""
    requests = [
        ChatRequest(model=model, messages=[ChatMessage(role="user", content=text)], **parameters)
        for text in inputs
    ]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    complete(services=services, owner=owner, request=request, origin=origin)
                )
                for request in requests
            ]
    except ExceptionGroup as errors:
        # The group has ended the others; their reader is told of the first trouble.
        raise errors.exceptions[0] from errors
    bodies = [task.result().body for task in tasks]
    usage = {
        name: sum((body.get("usage") or {}).get(name, 0) for body in bodies)
        for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    }
    outputs = [body["choices"][0]["message"]["content"] for body in bodies]
    return CompletionAnswer({"outputs": outputs, "usage": usage}, tasks[0].result().headers)
