"""OpenAI's response bodies, built from the engine's chunks; knows no HTTP and no model."""

import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

from inference_service.engine.requests import Chunk
from inference_service.plantuml.diagrams import Draft, Drawn
from inference_service.plantuml.diagrams import Event as DiagramEvent
from shared.errors import GenPlatError

logger = logging.getLogger(__name__)

Kind = Literal["chat", "text"]
_PREFIX = {"chat": "chatcmpl-", "text": "cmpl-"}
_OBJECT = {"chat": "chat.completion", "text": "text_completion"}
DONE = "data: [DONE]\n\n"
Chunks = AsyncGenerator[Chunk, None]
Drawing = AsyncGenerator[DiagramEvent, None]
Events = AsyncGenerator[str, None]


def new_id(kind: Kind) -> str:
    return _PREFIX[kind] + secrets.token_hex(12)


def _now() -> int:
    return int(time.time())


@dataclass(frozen=True)
class Envelope:
    """What all bodies of one response share."""

    kind: Kind
    model: str
    include_usage: bool = False
    id: str = ""
    created: int = field(default_factory=_now)

    def body(self, choice: dict[str, Any], usage: dict[str, int]) -> dict[str, Any]:
        """The whole answer at once."""
        return self._around(_OBJECT[self.kind], [choice]) | {"usage": usage}

    def chunk(self, choice: dict[str, Any] | None, usage: dict[str, int] | None = None) -> str:
        """One server-sent event. Clients that asked for usage find null in all but the last."""
        name = "chat.completion.chunk" if self.kind == "chat" else "text_completion"
        body = self._around(name, [] if choice is None else [choice])
        if self.include_usage:
            body["usage"] = usage
        return sse(body)

    def _around(self, name: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": name,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def envelope(kind: Kind, model: str, *, include_usage: bool) -> Envelope:
    return Envelope(kind, model, include_usage, new_id(kind))


def sse(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def usage_of(event: Chunk | Drawn) -> dict[str, int]:
    return {
        "prompt_tokens": event.prompt_tokens,
        "completion_tokens": event.completion_tokens,
        "total_tokens": event.prompt_tokens + event.completion_tokens,
    }


async def whole_text(head: Envelope, chunks: Chunks) -> dict[str, Any]:
    """The body of a completion that is not streamed."""
    text, last = "", Chunk("", 0)
    async with aclosing(chunks):
        async for chunk in chunks:
            text += chunk.text
            last = chunk
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": last.finish_reason}
    if head.kind == "chat":
        choice["message"] = {"role": "assistant", "content": text, "refusal": None}
    else:
        choice["text"] = text
    return head.body(choice, usage_of(last))


async def stream_text(head: Envelope, chunks: Chunks) -> Events:
    """Server-sent events of a completion. The first chunk tells the role and nothing else."""
    first = True
    async with aclosing(chunks):
        async for chunk in chunks:
            yield head.chunk(_choice(head.kind, chunk, first=first))
            first = False
            if chunk.finish_reason is not None and head.include_usage:
                yield head.chunk(None, usage_of(chunk))


def _choice(kind: Kind, chunk: Chunk, *, first: bool) -> dict[str, Any]:
    if kind == "text":
        end = {"logprobs": None, "finish_reason": chunk.finish_reason}
        return {"index": 0, "text": chunk.text, **end}
    if first:
        return _delta({"role": "assistant", "content": ""})
    return _delta({"content": chunk.text} if chunk.text else {}, chunk.finish_reason)


async def whole_diagram(head: Envelope, events: Drawing) -> dict[str, Any]:
    """The body of a diagram answer: `content` is the source, `diagram` all there is to it."""
    drawn = await last_of(events)
    message = {
        "role": "assistant",
        "content": drawn.diagram.source,
        "refusal": None,
        "diagram": drawn.diagram.model_dump(mode="json"),
    }
    choice = {"index": 0, "logprobs": None, "finish_reason": drawn.finish_reason}
    return head.body(choice | {"message": message}, usage_of(drawn))


async def stream_diagram(head: Envelope, events: Drawing) -> Events:
    """Server-sent events of a diagram: live drafts, then the final source as the only content."""
    begun = False
    async with aclosing(events):
        async for event in events:
            if not begun:
                begun = True
                yield head.chunk(_delta({"role": "assistant", "content": ""}))
            if isinstance(event, Draft):
                draft = {"attempt": event.attempt, "text": event.text}
                yield head.chunk(_delta({"draft": draft}))
            elif isinstance(event, Drawn):
                yield head.chunk(_delta({"content": event.diagram.source}))
                diagram = event.diagram.model_dump(mode="json")
                yield head.chunk(_delta({"diagram": diagram}, event.finish_reason))
                if head.include_usage:
                    yield head.chunk(None, usage_of(event))


async def last_of(events: Drawing) -> Drawn:
    """The result, when nobody watches the drafts."""
    drawn: Drawn | None = None
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Drawn):
                drawn = event
    if drawn is None:
        raise GenPlatError("The drawing ended without a result.")
    return drawn


def _delta(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


async def finished_stream(events: Events) -> Events:
    """The stream with its one end: `[DONE]`, or an error event where it broke off."""
    try:
        async with aclosing(events) as lines:
            async for line in lines:
                yield line
        yield DONE
    except GenPlatError as error:
        yield sse(error.body())
    except Exception:
        logger.exception("a stream broke off")
        yield sse(GenPlatError("The service failed on this request; its log says why.").body())
