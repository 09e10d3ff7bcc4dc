"""The buttons of a run's page: pause, resume, stop, cancel, delete, deploy."""

import re
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from gateway import deployments, run_views, runs
from gateway.deployments import DeploymentSpec
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.pages import run_panel
from gateway.pages.html import base_url, page, see_other
from gateway.run_views import RunView
from gateway.services import Services
from shared.errors import Conflict, GenPlatError, InvalidData

router = APIRouter(prefix="/runs/{run_id}", include_in_schema=False)

Action = Callable[..., Awaitable[RunView]]


@router.post("/cancel")
async def cancel_run(
    run_id: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    return await _act(runs.cancel_run, request, services, owner, run_id)


@router.post("/pause")
async def pause_run(
    run_id: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    return await _act(runs.pause_run, request, services, owner, run_id)


@router.post("/resume")
async def resume_run(
    run_id: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    return await _act(runs.resume_run, request, services, owner, run_id)


@router.post("/stop")
async def stop_run(
    run_id: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    return await _act(runs.stop_run, request, services, owner, run_id)


@router.post("/delete")
async def delete_run(run_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    await runs.delete_run(services=services, owner=owner, run_id=run_id)
    return see_other("/runs")


@router.post("/deploy")
async def deploy_run(
    run_id: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    return await _deploy(request, services, owner, run_id, None)


@router.post("/checkpoints/{step}/deploy")
async def deploy_checkpoint(
    run_id: str, step: int, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    return await _deploy(request, services, owner, run_id, step)


async def _act(
    action: Action, request: Request, services: Services, owner: str, run_id: str
) -> Response:
    try:
        await action(services=services, owner=owner, run_id=run_id)
    except Conflict as error:
        return await _show_problem(error, request, services, owner, run_id)
    return see_other(f"/runs/{run_id}")


async def _show_problem(
    error: GenPlatError, request: Request, services: Services, owner: str, run_id: str
) -> Response:
    """The run moved on while the button was on its way: its page, with a sentence about that."""
    context = await run_in_threadpool(
        run_panel.run_context, services, owner, run_id, base_url(request)
    )
    return page(run_panel.TEMPLATE, status=error.status, **context | {"problem": error.message})


async def _deploy(
    request: Request, services: Services, owner: str, run_id: str, step: int | None
) -> Response:
    """One click: under the run's own name, or that and a piece of its id where it is taken."""
    run = await run_in_threadpool(
        run_views.get_run, database=services.database, owner=owner, run_id=run_id
    )
    name = deployment_name(run.spec.get("suffix", ""), run.id, step)
    spec = DeploymentSpec(name=name, model=run_id, checkpoint=step)
    try:
        deployed = await _create(services, owner, spec, f"{name}-{run.id[-4:]}")
    except (Conflict, InvalidData) as error:
        return await _show_problem(error, request, services, owner, run_id)
    return see_other(f"/deployments/{deployed}")


async def _create(services: Services, owner: str, spec: DeploymentSpec, other: str) -> str:
    try:
        await deployments.create_deployment(services=services, owner=owner, spec=spec)
    except Conflict:
        spec = spec.model_copy(update={"name": other})
        await deployments.create_deployment(services=services, owner=owner, spec=spec)
    return spec.name


def deployment_name(suffix: str, run_id: str, step: int | None = None) -> str:
    """A run's suffix as a name that programs may call, with room for the step and more."""
    name = re.sub(r"[^a-z0-9._-]+", "-", suffix.lower()).strip("-._")[:44]
    name = name or f"run-{run_id[-8:]}"
    return name if step is None else f"{name}-step-{step}"
