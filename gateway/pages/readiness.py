"""The part of a route's page that tells how good its fallback is."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from gateway.deps import PageOwnerDep, ServicesDep
from gateway.orchestrator import readiness_reports
from gateway.pages.html import fragment, see_other
from gateway.services import Services

router = APIRouter(prefix="/routes/{name}/readiness", include_in_schema=False)


@router.get("")
def show_readiness(name: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    """The part alone; the page asks for it while the fallback is measured."""
    return fragment(
        "routes/edit.html", "readiness", name=name, **readiness_of(services, owner, name)
    )


@router.post("")
def measure_readiness(name: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    readiness_reports.ask_for_report(database=services.database, owner=owner, name=name)
    return see_other(f"/routes/{name}#readiness")


def readiness_of(services: Services, owner: str, name: str) -> dict[str, Any]:
    found = readiness_reports.find_report(database=services.database, owner=owner, name=name)
    return {"readiness": readiness_reports.view_of(found) if found else None}
