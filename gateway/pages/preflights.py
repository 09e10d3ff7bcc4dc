"""The pre-flight report as a page: asked for from the form of a new run, read before it starts."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from gateway import preflight, runs
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.pages import run_form as run_form_page
from gateway.pages.html import UNPROCESSABLE, fragment, page, problems, see_other
from gateway.services import Services
from shared.errors import GenPlatError
from shared.preflight import PreflightReport
from shared.runs import FineTuneSpec
from ui import run_form
from ui.preflight_report import report_view

router = APIRouter(include_in_schema=False)


@router.post("/runs/preflight")
async def check_run(request: Request, services: ServicesDep, owner: PageOwnerDep) -> Response:
    """The fields of the new run's form; a wrong one brings the form back."""
    values = await run_form_page.submitted(request)
    spec, errors = run_form.parse(values)
    shown: dict[str, Any] = {"errors": errors}
    if spec is not None:
        try:
            preflight_id = await preflight.start(services=services, owner=owner, spec=spec)
            return see_other(f"/preflights/{preflight_id}")
        except GenPlatError as error:
            shown = problems(error, run_form.NAMES)
    return await run_in_threadpool(
        run_form_page.show_form, services, owner, values, UNPROCESSABLE, **shown
    )


@router.get("/preflights/{preflight_id}")
async def show_preflight(
    preflight_id: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    """While the check is under way the page asks again for its `report` block."""
    report = await preflight.find(services=services, owner=owner, preflight_id=preflight_id)
    shown: dict[str, Any] = {"id": preflight_id, "report": report}
    shown["view"] = report and report_view(report)
    if "hx-request" in request.headers:
        return fragment("preflights/show.html", "report", **shown)
    return page("preflights/show.html", **shown)


@router.post("/preflights/{preflight_id}/start")
async def start_run(
    preflight_id: str,
    services: ServicesDep,
    owner: PageOwnerDep,
    changed: Annotated[str, Form()] = "",
) -> Response:
    """Start the run that was checked; ``changed``: with the settings that make it fit."""
    spec = await _checked_spec(services, owner, preflight_id, changed=bool(changed))
    if spec is None:
        return see_other(f"/preflights/{preflight_id}")
    run = await runs.create_run(services=services, owner=owner, spec=spec)
    return see_other(f"/runs/{run.id}")


@router.post("/preflights/{preflight_id}/again")
async def check_again(
    preflight_id: str,
    services: ServicesDep,
    owner: PageOwnerDep,
    changed: Annotated[str, Form()] = "",
) -> Response:
    """Check the same run once more; ``changed``: with the settings that make it fit."""
    spec = await _checked_spec(services, owner, preflight_id, changed=bool(changed))
    if spec is None:
        return see_other(f"/preflights/{preflight_id}")
    new_id = await preflight.start(services=services, owner=owner, spec=spec)
    return see_other(f"/preflights/{new_id}")


async def _checked_spec(
    services: Services, owner: str, preflight_id: str, *, changed: bool
) -> FineTuneSpec | None:
    """What was checked, or that with the changes that make it fit; None while it is checked."""
    report = await preflight.find(services=services, owner=owner, preflight_id=preflight_id)
    if report is None:
        return None
    return _changed(report) if changed else report.spec


def _changed(report: PreflightReport) -> FineTuneSpec:
    changes = (report.memory.changes if report.memory else None) or {}
    return FineTuneSpec.model_validate(report.spec.model_dump() | changes)
