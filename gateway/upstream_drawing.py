"""Diagrams by service LLMs: they write the text, our renderer draws it and says what is wrong.

Knows no database. Answers have the shape that our own inference service gives them.
"""

from typing import Any

from gateway.completion_requests import CHAT_PATH, body_of
from gateway.inference_client import InferenceClient
from gateway.orchestrator.upstreams import Upstream
from gateway.upstream_client import UpstreamClient
from shared.chat import ChatRequest, DiagramRequest
from shared.datasets import Message
from shared.diagram_talk import (
    REPAIR_TEMPERATURE,
    complaint,
    extract_source,
    instructed,
    without_a_diagram,
)
from shared.diagrams import DiagramOptions, RenderedDiagram
from shared.errors import UpstreamFailed

_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


async def draw(
    *,
    upstreams: UpstreamClient,
    inference: InferenceClient,
    upstream: Upstream,
    request: ChatRequest,
) -> dict[str, Any]:
    """The answer to a chat request in diagram mode, after at most ``max_attempts``."""
    options = request.diagram or DiagramOptions()
    messages = instructed(
        tuple(Message(role=_role(turn.role), content=turn.text) for turn in request.messages)
    )
    body = body_of(request)
    for field in ("stream", "stream_options", "diagram"):
        body.pop(field, None)
    usage = dict.fromkeys(_COUNTS, 0)
    for attempt in range(1, options.max_attempts + 1):
        asked = body | {"messages": [message.model_dump() for message in messages]}
        if attempt > 1:
            asked["temperature"] = max(request.temperature or 0, REPAIR_TEMPERATURE)
        answer = await upstreams.complete(upstream, CHAT_PATH, asked)
        text, finish_reason = _read(upstream, answer)
        _add(usage, answer.get("usage"))
        drawn = await _render(inference, text, cut_off=finish_reason == "length")
        drawn = drawn.model_copy(update={"attempts": attempt})
        if drawn.rendered:
            break
        messages = (*messages, *complaint(drawn))
    message = {
        "role": "assistant",
        "content": drawn.source,
        "diagram": drawn.model_dump(mode="json"),
    }
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
    return answer | {"choices": [choice], "usage": usage}


def as_chunk(answer: dict[str, Any]) -> dict[str, Any]:
    """The same as the only chunk of a stream: nothing can be shown before it is drawn."""
    choice = answer["choices"][0]
    kept = {name: answer[name] for name in ("id", "created", "model") if name in answer}
    delta = {"index": 0, "delta": choice["message"], "finish_reason": choice["finish_reason"]}
    return kept | {"object": "chat.completion.chunk", "choices": [delta]}


def _role(role: str) -> Any:
    return "system" if role == "developer" else role


def _read(upstream: Upstream, answer: dict[str, Any]) -> tuple[str, str]:
    try:
        choice = answer["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UpstreamFailed(
            f"{upstream.name} sent no answer.", code="upstream_unreadable"
        ) from error
    return str(text or ""), str(reason or "stop")


def _add(usage: dict[str, int], told: Any) -> None:
    for name in _COUNTS:
        count = told.get(name) if isinstance(told, dict) else None
        usage[name] += count if isinstance(count, int) else 0


async def _render(inference: InferenceClient, text: str, *, cut_off: bool) -> RenderedDiagram:
    source = extract_source(text)
    if source is None:
        return without_a_diagram(text, cut_off=cut_off)
    return await inference.draw(DiagramRequest(source=source))
