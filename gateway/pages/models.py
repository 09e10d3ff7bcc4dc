"""Models: the library of base models, and what runs made of them."""

from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, Form
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from gateway import library, run_views
from gateway.api.library import LibraryModelCreate
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.devices import largest_device, memory_needs
from gateway.pages.html import UNPROCESSABLE, fragment, no_problems, page, problems, see_other
from gateway.services import Services
from shared.errors import GenPlatError

router = APIRouter(prefix="/models", include_in_schema=False)

SHOWN_RUNS = 100
FIELDS = ("id", "folder", "name", "context_length")


@router.get("")
async def list_models(services: ServicesDep, owner: PageOwnerDep) -> Response:
    return await _page(services, owner)


@router.get("/library")
async def show_library(services: ServicesDep, owner: PageOwnerDep) -> Response:
    """The table of base models alone; the page asks for it while something is prepared."""
    return fragment("models/list.html", "library", **await _library(services, owner))


@router.post("")
async def add_model(
    services: ServicesDep,
    owner: PageOwnerDep,
    id: Annotated[str, Form()] = "",
    folder: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
    context_length: Annotated[str, Form()] = "",
) -> Response:
    typed = (id, folder, name, context_length)
    values = {field: text.strip() for field, text in zip(FIELDS, typed, strict=True)}
    try:
        await run_in_threadpool(_add, services, owner, values)
    except (GenPlatError, ValidationError) as error:
        return await _page(services, owner, UNPROCESSABLE, values=values, **problems(error, FIELDS))
    return see_other("/models#library")


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
        return await _page(services, owner, error.status, error=error.message)
    return see_other("/models")


def _add(services: Services, owner: str, values: dict[str, str]) -> None:
    """A local folder needs no name from the hub: it gets one of its own."""
    given: dict[str, Any] = {field: text for field, text in values.items() if text}
    if folder := given.get("folder"):
        given.setdefault("id", f"local/{PurePath(folder).name}")
    asked = LibraryModelCreate.model_validate({"id": ""} | given)
    library.add_library_model(
        database=services.database,
        owner=owner,
        import_root=services.settings.import_root,
        model_id=asked.id,
        **asked.model_dump(exclude={"id"}),
    )


async def _library(services: Services, owner: str) -> dict[str, Any]:
    """The base models, each with what its methods need of the workers' largest device."""
    items = await run_in_threadpool(
        library.list_library, database=services.database, storage=services.storage, owner=owner
    )
    device = await largest_device(services.redis)
    needs = {item.entry.id: memory_needs(item.entry, device) for item in items}
    return {"library": items, "device": device, "needs": needs}


async def _page(
    services: Services,
    owner: str,
    status: int = 200,
    values: dict[str, str] | None = None,
    **shown: Any,
) -> Response:
    listed = await run_in_threadpool(
        run_views.list_runs, database=services.database, owner=owner, limit=SHOWN_RUNS
    )
    runs = listed.data
    return page(
        "models/list.html",
        status=status,
        tuned=[run for run in runs if run.fine_tuned_model and run.status == "succeeded"],
        **await _library(services, owner),
        values=values or dict.fromkeys(FIELDS, ""),
        adding=values is not None,
        import_root=services.settings.import_root,
        **(no_problems() | shown),
    )
