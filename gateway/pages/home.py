"""The start page: how far the user has come, and what is going on."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from gateway import deployments, run_views
from gateway.datasets import store
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.pages.html import page
from shared.runs import TERMINAL
from ui.start_steps import next_step, start_steps

router = APIRouter(include_in_schema=False)

COUNTED = 100
SHOWN = 6


@router.get("/")
def show_home(services: ServicesDep, owner: PageOwnerDep) -> Response:
    asked: dict[str, Any] = {"database": services.database, "owner": owner, "limit": COUNTED}
    runs = run_views.list_runs(**asked).data
    serving = deployments.list_deployments(**asked).data
    succeeded = [run.id for run in runs if run.status == "succeeded"]
    steps = start_steps(
        datasets=len(store.list_datasets(**asked).data),
        runs=len(runs),
        succeeded=len(succeeded),
        live=sum(run.status not in TERMINAL for run in runs),
        deployments=len(serving),
        newest_success=succeeded[0] if succeeded else "",
    )
    return page(
        "home/home.html",
        steps=steps,
        next_step=next_step(steps),
        runs=runs[:SHOWN],
        deployments=serving[:SHOWN],
    )
