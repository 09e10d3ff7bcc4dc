"""One request of a batch, answered: a line of an output file. Knows no files and no tables."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from gateway.answering.patience import Patience, Pause, patiently
from gateway.batches.checking import BatchRequest
from gateway.completion_requests import CHAT_PATH, Request
from shared import request_id
from shared.chat import ChatRequest, CompletionRequest
from shared.errors import GenPlatError, InvalidRequest, TimedOut

# While a model is busy or away; the batch itself may take a day.
PATIENCE = Patience(longest=3600)
Complete = Callable[[Request], Awaitable[dict[str, Any]]]
_NOT_RUN = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "The batch was cancelled before this request was executed.",
}


@dataclass(frozen=True)
class Answered:
    """``content`` is the line; ``failed`` ones go into the error file."""

    line: int
    content: str
    failed: bool
    input_tokens: int = 0
    output_tokens: int = 0


async def answer(
    endpoint: str, request: BatchRequest, complete: Complete, pause: Pause = asyncio.sleep
) -> Answered:
    """The answer to a request as anybody would have got it, or the error. ``pause`` passes the time
    until it is asked again."""
    request_id.begin("")
    try:
        parsed = parse(endpoint, request.body)
        body = await patiently(lambda: complete(parsed), PATIENCE, pause)
    except TimedOut as error:
        return _without_response(request, "request_timeout", error.message)
    except GenPlatError as error:
        return Answered(request.line, _response(request, error.status, error.body()), failed=True)
    usage = body.get("usage") or {}
    return Answered(
        request.line,
        _response(request, 200, body),
        failed=False,
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
    )


def parse(endpoint: str, body: dict[str, Any]) -> Request:
    """The request in a line's body. Raises `InvalidRequest` as the endpoint itself would."""
    kind: type[Request] = ChatRequest if endpoint == CHAT_PATH else CompletionRequest
    try:
        parsed = kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"])[:200] or None
        said = str(first["msg"]).removeprefix("Value error, ")
        raise InvalidRequest(f"{param}: {said}." if param else f"{said}.", param=param) from error
    if parsed.stream:
        raise InvalidRequest("stream: a batch has whole answers. Leave it out.", param="stream")
    return parsed


def not_run(request: BatchRequest, code: str) -> Answered:
    """For what nobody was asked: ``batch_expired`` or ``batch_cancelled``."""
    return _without_response(request, code, _NOT_RUN[code])


def _without_response(request: BatchRequest, code: str, message: str) -> Answered:
    line = _line(request, None, {"code": code, "message": message})
    return Answered(request.line, line, failed=True)


def _response(request: BatchRequest, status: int, body: dict[str, Any]) -> str:
    """``request_id`` is what the request is called in all logs."""
    told = {"status_code": status, "request_id": request_id.current(), "body": body}
    return _line(request, told, None)


def _line(
    request: BatchRequest, response: dict[str, Any] | None, error: dict[str, str] | None
) -> str:
    return json.dumps(
        {
            "id": f"batch_req_{secrets.token_hex(12)}",
            "custom_id": request.custom_id,
            "response": response,
            "error": error,
        }
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
