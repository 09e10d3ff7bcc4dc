"""Chat and text completions: passed to a model that answers, whole or as a stream of bytes.

Knows no HTTP. Bytes of a stream are passed on as they are, except in diagram mode, where the
drawing in the last chunk is stored and replaced by its addresses.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from gateway.diagrams import store_diagram
from gateway.inference_client import InferenceStream
from gateway.services import Services
from gateway.serving import serve
from gateway.stopping import Stopping
from shared.chat import ChatMessage, ChatRequest, CompletionRequest
from shared.diagrams import RenderedDiagram
from shared.errors import GenPlatError, Unavailable, UpstreamFailed

log = logging.getLogger(__name__)

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"
MAX_EVENT_BYTES = 32 * 1024 * 1024

Request = ChatRequest | CompletionRequest


@dataclass(frozen=True)
class CompletionAnswer:
    """A whole answer: OpenAI's body, and headers that tell who gave it."""

    body: dict[str, Any]
    headers: dict[str, str]


async def complete(*, services: Services, owner: str, request: Request) -> CompletionAnswer:
    """The whole answer to a chat or completion request."""

    async def ask(name: str) -> dict[str, Any]:
        return await services.inference.complete(
            _path(request), _body(request, name), served_as=request.model
        )

    served = await serve(services=services, owner=owner, model=request.model, ask=ask)
    if _draws(request):
        for choice in served.result.get("choices", []):
            await _publish(services, owner, request.model, choice.get("message") or {})
    return CompletionAnswer(served.result, served.headers)


async def chat(*, services: Services, owner: str, request: ChatRequest) -> CompletionAnswer:
    return await complete(services=services, owner=owner, request=request)


async def stream(
    *, services: Services, owner: str, request: Request
) -> tuple[dict[str, str], AsyncIterator[bytes]]:
    """The headers and the bytes of a streamed answer. It returns after the first bytes came: up to
    then another model can still take over."""

    async def ask(name: str) -> tuple[bytes, AsyncIterator[bytes], InferenceStream]:
        body = _body(request, name) | {"stream": True}
        upstream = await services.inference.stream(_path(request), body, served_as=request.model)
        try:
            chunks = upstream.chunks()
            async for first in chunks:
                return first, chunks, upstream
        except BaseException:
            await upstream.aclose()
            raise
        await upstream.aclose()
        raise UpstreamFailed("The model's answer ended before it began.")

    served = await serve(services=services, owner=owner, model=request.model, ask=ask)
    answer = _relay(services.stopping, *served.result)
    if _draws(request):
        answer = _with_diagrams(services, owner, request.model, answer)
    return served.headers, answer


async def stream_chat(
    *, services: Services, owner: str, request: ChatRequest
) -> tuple[dict[str, str], AsyncIterator[bytes]]:
    return await stream(services=services, owner=owner, request=request)


def _path(request: Request) -> str:
    return CHAT_PATH if isinstance(request, ChatRequest) else COMPLETIONS_PATH


def _body(request: Request, name: str) -> dict[str, Any]:
    return request.model_dump(mode="json", exclude_unset=True) | {"model": name}


def _draws(request: Request) -> bool:
    return isinstance(request, ChatRequest) and request.diagram is not None


async def _relay(
    stopping: Stopping, first: bytes, chunks: AsyncIterator[bytes], upstream: InferenceStream
) -> AsyncIterator[bytes]:
    """The bytes as they come. Whoever stops reading ends the work behind them; where it breaks
    off, the reader gets an error event and no `[DONE]`."""
    chunk: bytes | None = first
    try:
        while chunk is not None:
            yield chunk
            async with stopping.breaks_off():
                chunk = await anext(chunks, None)
    except GenPlatError as error:
        yield _broken_off(error)
    finally:
        await upstream.aclose()


def _broken_off(error: GenPlatError) -> bytes:
    """The event that stands in place of an answer's rest."""
    log.warning("An answer broke off: %s", error.message)
    return b"\n\n" + _event(error.body())


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


async def _with_diagrams(
    services: Services, owner: str, model: str, chunks: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """The same stream with its drawing stored; every other event is passed on untouched."""
    waiting = b""
    try:
        async with aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                *events, waiting = (waiting + chunk).split(b"\n\n")
                if len(waiting) > MAX_EVENT_BYTES:
                    raise UpstreamFailed("The model's answer holds an event without an end.")
                for event in events:
                    yield await _with_public_diagram(services, owner, model, event) + b"\n\n"
            if waiting:
                yield waiting
    except GenPlatError as error:
        yield _broken_off(error)
    except (OSError, SQLAlchemyError):
        log.exception("A drawing could not be stored.")
        yield _broken_off(Unavailable("The drawing was made but could not be stored."))


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
    return _event(data).rstrip(b"\n")


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
    *, services: Services, owner: str, model: str, inputs: list[str], parameters: dict[str, Any]
) -> CompletionAnswer:
    """Answer each input by itself, all at once: the engine answers them as a batch."""
    requests = [
        ChatRequest(model=model, messages=[ChatMessage(role="user", content=text)], **parameters)
        for text in inputs
    ]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(complete(services=services, owner=owner, request=request))
                for request in requests
            ]
    except ExceptionGroup as errors:
        # The group has ended the others; their reader is told of the first trouble.
        raise errors.exceptions[0] from errors
    bodies = [task.result().body for task in tasks]
    usage = {
        name: sum(body.get("usage", {}).get(name, 0) for body in bodies)
        for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    }
    outputs = [body["choices"][0]["message"]["content"] for body in bodies]
    return CompletionAnswer({"outputs": outputs, "usage": usage}, tasks[0].result().headers)
