"""`/api/routes/{name}/readiness`: how good a route's fallback is on the last day's prompts."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from gateway.deps import OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim
from gateway.orchestrator import readiness_reports
from gateway.orchestrator.readiness_reports import ReadinessView, view_of

router = APIRouter(prefix="/api/routes/{name}/readiness", tags=["routes"])


@router.get("")
def get_readiness(name: str, services: ServicesDep, owner: OwnerDep) -> ReadinessView:
    """The newest report; its status is `done` once it has a score."""
    found = readiness_reports.get_report(database=services.database, owner=owner, name=name)
    return view_of(found)


@router.post("", status_code=202, response_model=ReadinessView)
async def measure_readiness(
    name: str, services: ServicesDep, owner: OwnerDep, once: OnceDep
) -> JSONResponse:
    """Measure now, in the background; the report under way where there is one."""

    async def create(claim: Claim | None) -> ReadinessView:
        report = await run_in_threadpool(
            readiness_reports.ask_for_report,
            database=services.database,
            owner=owner,
            name=name,
            claim=claim,
        )
        return view_of(report)

    async def load(report_id: str) -> ReadinessView:
        found = await run_in_threadpool(
            readiness_reports.report_by_id,
            database=services.database,
            owner=owner,
            report_id=report_id,
        )
        return view_of(found)

    return await once(create, load=load, status=202)
