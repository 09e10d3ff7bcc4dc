"""`/api/deployments`: models served under a name; each with its own Swagger page."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from gateway import completions, deployments
from gateway.api.deployment_openapi import deployment_openapi
from gateway.api.disconnects import unless_gone
from gateway.api.docs import swagger_page
from gateway.deployments import DeploymentSpec, DeploymentView
from gateway.deps import ListDep, ListPublic, OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim
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


@router.post("", status_code=201, response_model=DeploymentView)
async def create_deployment(
    spec: DeploymentSpec, services: ServicesDep, owner: OwnerDep, once: OnceDep
) -> JSONResponse:
    """Serve a run's result or a base model under a name; it is loaded in the background."""

    async def create(claim: Claim | None) -> DeploymentView:
        return await deployments.create_deployment(
            services=services, owner=owner, spec=spec, claim=claim
        )

    async def load(name: str) -> DeploymentView:
        return deployments.get_deployment(database=services.database, owner=owner, name=name)

    return await once(create, load=load)


@router.get("")
def list_deployments(services: ServicesDep, owner: OwnerDep, query: ListDep) -> ListPublic:
    page = deployments.list_deployments(
        database=services.database, owner=owner, after=query.after, limit=query.limit
    )
    return ListPublic(data=page.data, has_more=page.has_more)


@router.get("/{name}")
def get_deployment(name: str, services: ServicesDep, owner: OwnerDep) -> DeploymentView:
    return deployments.get_deployment(database=services.database, owner=owner, name=name)


@router.delete("/{name}", status_code=204)
async def delete_deployment(name: str, services: ServicesDep, owner: OwnerDep) -> Response:
    await deployments.delete_deployment(services=services, owner=owner, name=name)
    return Response(status_code=204)


@router.post("/{name}/predict", response_model=PredictPublic)
async def predict(
    name: str, body: PredictRequest, request: Request, services: ServicesDep, owner: OwnerDep
) -> JSONResponse:
    """Answer one input or several; each is a conversation of its own."""
    await run_in_threadpool(
        deployments.get_deployment, database=services.database, owner=owner, name=name
    )
    inputs = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    answer = await unless_gone(
        request,
        completions.predict(
            services=services,
            owner=owner,
            model=name,
            inputs=inputs,
            parameters=body.parameters.model_dump(exclude_unset=True),
        ),
    )
    return JSONResponse(answer.body, headers=answer.headers)


@router.get("/{name}/openapi.json")
def get_openapi(name: str, services: ServicesDep, owner: OwnerDep) -> dict[str, Any]:
    """An OpenAPI document of this deployment alone."""
    deployment = deployments.get_deployment(database=services.database, owner=owner, name=name)
    return deployment_openapi(deployment)


@router.get("/{name}/docs", response_class=HTMLResponse)
def show_docs(name: str, services: ServicesDep, owner: OwnerDep) -> HTMLResponse:
    """A Swagger page on which the deployment can be tried."""
    deployment = deployments.get_deployment(database=services.database, owner=owner, name=name)
    return swagger_page(f"/api/deployments/{deployment.name}/openapi.json")
