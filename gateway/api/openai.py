"""`/v1/chat/completions` and `/v1/completions`: OpenAI's API over GenPlat's models."""

import json

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway import completions
from gateway.api.disconnects import unless_gone
from gateway.api.metering import Meter, MeterDep
from gateway.api.origins import origin_of
from gateway.api.streaming import EventStream
from gateway.deps import Caller, CallerDep, ServicesDep
from gateway.services import Services
from gateway.token_counts import tokens_of
from shared.chat import ChatRequest, CompletionRequest

router = APIRouter(prefix="/v1", tags=["OpenAI"])
_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@router.post("/chat/completions", response_model=None)
async def create_chat_completion(
    body: ChatRequest, request: Request, services: ServicesDep, caller: CallerDep, meter: MeterDep
) -> Response:
    """Answer a conversation, whole or (`stream`) as it is written. With `diagram`, the answer is a
    PlantUML source, and comes with its rendered picture."""
    return await _answer(body, request, services, caller, meter)


@router.post("/completions", response_model=None)
async def create_completion(
    body: CompletionRequest,
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    meter: MeterDep,
) -> Response:
    """Continue a text, without a chat template."""
    return await _answer(body, request, services, caller, meter)


async def _answer(
    body: ChatRequest | CompletionRequest,
    request: Request,
    services: Services,
    caller: Caller,
    meter: Meter,
) -> Response:
    reads, writes = tokens_of(body)
    owner = caller.owner
    origin = origin_of(request, caller, store=getattr(body, "store", None))
    async with meter.taking(reads=reads, writes=writes):
        if body.stream:
            headers, chunks = await unless_gone(
                request,
                completions.stream(services=services, owner=owner, request=body, origin=origin),
            )
            return EventStream(meter.along(chunks), headers | _STREAM_HEADERS)
        answer = await unless_gone(
            request,
            completions.complete(services=services, owner=owner, request=body, origin=origin),
        )
    meter.end_with(answer.body)
    # As ASCII: an upstream may have sent half a character, which has no other form.
    content = json.dumps(answer.body, separators=(",", ":"))
    return Response(content, media_type="application/json", headers=answer.headers)
