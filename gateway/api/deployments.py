"""`/api/deployments`: models served under a name; each with its own Swagger page."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse, Response

from gateway import deployments
from gateway.api.deployment_openapi import deployment_openapi
from gateway.api.docs import swagger_page
from gateway.deployments import DeploymentSpec, DeploymentView
from gateway.deps import ListDep, ListPublic, OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim

router = APIRouter(prefix="/api/deployments", tags=["deployments"])


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
