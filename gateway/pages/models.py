"""Models: the library of base models, and what runs made of them."""

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from gateway import library, run_views
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.pages.html import fragment, page, see_other
from gateway.services import Services
from shared.errors import GenPlatError

router = APIRouter(prefix="/models", include_in_schema=False)

SHOWN_RUNS = 100


@router.get("")
def list_models(services: ServicesDep, owner: PageOwnerDep) -> Response:
    return _page(services, owner)


@router.get("/library")
def show_library(services: ServicesDep, owner: PageOwnerDep) -> Response:
    """The table of base models alone; the page asks for it while something is prepared."""
    items = _library(services, owner)
    return fragment("models/list.html", "library", library=items)


@router.post("/prepare")
async def prepare_model(
    services: ServicesDep, owner: PageOwnerDep, model_id: Annotated[str, Form()] = ""
) -> Response:
    try:
        await library.prepare(
            database=services.database,
            storage=services.storage,
            queue=services.queue,
            owner=owner,
            model_id=model_id,
        )
    except GenPlatError as error:
        return await run_in_threadpool(_page, services, owner, error)
    return see_other("/models")


def _library(services: Services, owner: str) -> list[library.LibraryItem]:
    return library.list_library(database=services.database, storage=services.storage, owner=owner)


def _page(services: Services, owner: str, error: GenPlatError | None = None) -> Response:
    runs = run_views.list_runs(database=services.database, owner=owner, limit=SHOWN_RUNS).data
    return page(
        "models/list.html",
        status=error.status if error else 200,
        tuned=[run for run in runs if run.fine_tuned_model and run.status == "succeeded"],
        library=_library(services, owner),
        error=error.message if error else None,
    )
