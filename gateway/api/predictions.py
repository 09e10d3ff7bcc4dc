"""`/api/deployments/{name}/predict`: inputs in, outputs out."""

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from gateway import completions, deployments
from gateway.api.disconnects import unless_gone
from gateway.api.metering import MeterDep
from gateway.api.origins import origin_of
from gateway.deps import CallerDep, ServicesDep
from gateway.token_counts import CHARACTERS_PER_TOKEN, USUAL_ANSWER
from shared.chat import MAX_PROMPT_CHARACTERS, Stop

router = APIRouter(prefix="/api/deployments", tags=["deployments"])

MAX_INPUTS = 256
Input = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)]


class PredictParameters(BaseModel):
    """How to write, under OpenAI's names."""

    model_config = ConfigDict(extra="forbid")

    max_tokens: int | None = Field(None, ge=1, le=131_072)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(None, ge=0, le=100_000)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop = None


class PredictRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inputs: Input | Annotated[list[Input], Field(min_length=1, max_length=MAX_INPUTS)]
    parameters: PredictParameters = PredictParameters.model_validate({})


class PredictPublic(BaseModel):
    outputs: list[str]
    usage: dict[str, int]


@router.post("/{name}/predict", response_model=PredictPublic)
async def predict(
    name: str,
    body: PredictRequest,
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    meter: MeterDep,
) -> JSONResponse:
    """Answer one input or several; each is a conversation of its own."""
    owner = caller.owner
    await run_in_threadpool(
        deployments.get_deployment, database=services.database, owner=owner, name=name
    )
    inputs = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    reads = sum(1 + len(text) // CHARACTERS_PER_TOKEN for text in inputs)
    writes = len(inputs) * (body.parameters.max_tokens or USUAL_ANSWER)
    async with meter.taking(reads=reads, writes=writes):
        answer = await unless_gone(
            request,
            completions.predict(
                services=services,
                owner=owner,
                model=name,
                inputs=inputs,
                parameters=body.parameters.model_dump(exclude_unset=True),
                origin=origin_of(request, caller, kind="prediction"),
            ),
        )
    meter.end_with(answer.body)
    return JSONResponse(answer.body, headers=answer.headers)
