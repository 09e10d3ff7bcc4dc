"""Asks one target what no reader waits for: shadows, and measurements of a fallback.

What comes of it is always told, never raised; the target's breaker is told too.
"""

import asyncio
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gateway import upstream_drawing
from gateway.answers import Answered, read_answer
from gateway.completion_requests import Request, body_of, path_of
from gateway.orchestrator.breaker import Visit
from gateway.orchestrator.plans import Target
from gateway.services import Services
from gateway.serving import failed
from shared.chat import ChatRequest
from shared.errors import GenPlatError, TimedOut, TooManyRequests, Unavailable

MOST_SECONDS = 120.0
OK = 200


@dataclass(frozen=True)
class Told:
    """What a target said. ``status`` is that which a reader would have got; ``seconds`` are those
    to the whole ``answer``."""

    status: int
    seconds: float
    answer: dict[str, Any] | None = None
    error_code: str | None = None

    @property
    def answered(self) -> bool:
        return self.status == OK

    @cached_property
    def said(self) -> Answered:
        return read_answer(self.answer or {})


async def ask_in_background(
    *,
    services: Services,
    target: Target,
    request: Request,
    name: str,
    visit: Visit | None = None,
) -> Told:
    """The whole answer of ``target``, asked under the ``name`` of its route. ``visit``: by which
    its breaker has let the request pass."""
    visit = visit or services.breakers.of(target.label).visit()
    began = time.perf_counter()
    try:
        async with asyncio.timeout(MOST_SECONDS):
            answer = await _ask(services, target, request, name)
    except TimeoutError:
        error: GenPlatError = TimedOut("There was no answer in time.", code="model_timeout")
    except GenPlatError as its_own:
        error = its_own
    except BaseException:
        visit.left()
        raise
    else:
        visit.succeeded()
        return Told(OK, time.perf_counter() - began, answer)
    if target.upstream is None and isinstance(error, TooManyRequests):
        # Our own queue is full of readers: that says nothing of the model.
        visit.left()
    else:
        failed(visit, target, error)
    return Told(error.status, time.perf_counter() - began, error_code=error.code)


async def _ask(services: Services, target: Target, request: Request, name: str) -> dict[str, Any]:
    if target.upstream is not None and isinstance(request, ChatRequest) and request.diagram:
        return await upstream_drawing.draw(
            upstreams=services.upstreams,
            inference=services.inference,
            upstream=target.upstream,
            request=request,
        )
    body = body_of(request)
    for field in ("stream", "stream_options"):
        body.pop(field, None)
    if target.upstream is not None:
        return await services.upstreams.complete(target.upstream, path_of(request), body)
    if target.problem is not None:
        raise Unavailable(target.problem, code="model_unavailable")
    own = body | {"model": target.engine_name}
    return await services.inference.complete(path_of(request), own, served_as=name)
