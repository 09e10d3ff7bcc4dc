"""One target's streamed answer, from the question to its end. Knows nothing of who reads it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from gateway import upstream_drawing
from gateway.completion_requests import Request, kind_of, path_of
from gateway.orchestrator.answer_reader import DONE, AnswerReader, Piece, event_of
from gateway.orchestrator.drills import EVENTS_BEFORE, STALL_SECONDS, Fault, made_error
from gateway.orchestrator.plans import Target
from gateway.orchestrator.upstreams import Upstream
from gateway.services import Services
from shared.chat import ChatRequest
from shared.errors import GenPlatError, UpstreamFailed

# Behind `[DONE]` comes the end of the body, mostly in the same packet.
END_SECONDS = 0.05

Pieces = AsyncGenerator[Piece, None]


@dataclass(frozen=True)
class Question:
    """What is asked of each target in turn; ``body`` is the request's, or that for its rest."""

    services: Services
    request: Request
    body: dict[str, Any]


@dataclass(frozen=True)
class Speaking:
    """A target that has begun to answer; whoever holds it closes its pieces."""

    target: Target
    pieces: Pieces


@dataclass(frozen=True)
class _Source:
    """Where an answer's bytes come from. ``heard``: called for those that say something, after
    which there may be silence again for a while."""

    chunks: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]]
    heard: Callable[[], None]


async def begin(question: Question, target: Target) -> Speaking:
    """Ask a target, and wait for its first word: until then another one can answer instead."""
    if target.fault in ("429", "500"):
        raise made_error(target.fault)
    pieces = _pieces(question, target)
    if target.fault is not None:
        pieces = _drilled(pieces, target.fault)
    try:
        early: list[Piece] = []
        async for piece in pieces:
            early.append(piece)
            if piece.says:
                return Speaking(target, _behind(early, pieces))
    except BaseException:
        await pieces.aclose()
        raise
    raise UpstreamFailed("The model's answer ended before it began.", code="stream_cut")


async def _behind(early: list[Piece], rest: Pieces) -> Pieces:
    async with aclosing(rest):
        for piece in early:
            yield piece
        async for piece in rest:
            yield piece


async def _pieces(question: Question, target: Target) -> Pieces:
    """Whole events up to, and without, `[DONE]`. Named errors where the answer breaks off."""
    source, reader = await _connect(question, target), AnswerReader(kind_of(question.request))
    try:
        async for chunk in source.chunks:
            piece = reader.add(chunk)
            if piece.says:
                source.heard()
            if piece.raw:
                yield piece
            if reader.trouble is not None:
                raise reader.trouble
            if reader.done:
                await _read_to_its_end(source.chunks)
                return
    finally:
        await source.close()
    raise UpstreamFailed("The model's answer broke off.", code="stream_cut")


async def _read_to_its_end(chunks: AsyncIterator[bytes]) -> None:
    """A connection with nothing left in it can be used for the next request."""
    with contextlib.suppress(TimeoutError, GenPlatError):
        async with asyncio.timeout(END_SECONDS):
            async for _ in chunks:
                pass


async def _connect(question: Question, target: Target) -> _Source:
    services, path, body = question.services, path_of(question.request), question.body
    if target.upstream is not None and "diagram" in body:
        drawing = _drawing(services, target.upstream, ChatRequest.model_validate(body))
        return _Source(drawing, drawing.aclose, _nothing)
    if target.upstream is not None:
        upstream = await services.upstreams.stream(target.upstream, path, body)
        return _Source(upstream.chunks(), upstream.aclose, upstream.heard)
    own = body | {"model": target.engine_name}
    inference = await services.inference.stream(path, own, served_as=question.request.model)
    return _Source(inference.chunks(), inference.aclose, _nothing)


def _nothing() -> None:
    pass


async def _drawing(
    services: Services, upstream: Upstream, request: ChatRequest
) -> AsyncGenerator[bytes, None]:
    answer = await upstream_drawing.draw(
        upstreams=services.upstreams,
        inference=services.inference,
        upstream=upstream,
        request=request,
    )
    yield event_of(upstream_drawing.as_chunk(answer | {"model": request.model})) + DONE


async def _drilled(pieces: Pieces, fault: Fault) -> Pieces:
    """The answer of somebody who breaks off, or falls silent, after some words."""
    left = EVENTS_BEFORE
    async with aclosing(pieces):
        async for piece in pieces:
            for event in piece.events:
                if not left:
                    if fault == "stall":
                        await asyncio.sleep(STALL_SECONDS)
                    raise made_error(fault)
                left -= 1
                yield Piece(event_of(event), (event,), piece.says)
