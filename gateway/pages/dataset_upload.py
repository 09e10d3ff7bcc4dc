"""How data comes in through pages: upload with its errors by line, choosing columns, import."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from gateway.bundled_examples import TRAINING, examples_folder
from gateway.datasets import store
from gateway.datasets.drafts import Draft, keep_draft, open_draft
from gateway.datasets.inspection import inspect_file
from gateway.datasets.problems import MAX_DETAILS
from gateway.datasets.submission import (
    FIELDS,
    DatasetImport,
    create_from_form,
    create_from_hub,
    named_columns,
)
from gateway.datasets.upload import Upload
from gateway.deps import PageOwnerDep, ServicesDep, receive
from gateway.pages.html import UNPROCESSABLE, no_problems, page, problems, see_other
from gateway.services import Services
from gateway.tables import Dataset
from shared.errors import GenPlatError
from ui.dataset_samples import SAMPLES

router = APIRouter(prefix="/datasets", include_in_schema=False)

EXAMPLES_NAME = "plantuml-examples"
IMPORT_FIELDS = tuple(DatasetImport.model_fields)


@router.get("/new")
def new_dataset(services: ServicesDep) -> Response:
    return _form(services)


@router.post("")
async def create_dataset(request: Request, services: ServicesDep, owner: PageOwnerDep) -> Response:
    upload: Upload | None = None
    try:
        async with receive(request, services) as upload:
            return await run_in_threadpool(_receive, services, owner, upload)
    except GenPlatError as error:
        return _form(services, error, upload)


def _receive(services: Services, owner: str, upload: Upload) -> Response:
    """A dataset; or the page where columns are chosen, if that is asked for or needed; or what is
    wrong, with the offer to leave out the rows that are."""
    if upload.fields.get("map") and upload.has_file:
        inspect_file(upload.path, upload.filename)
        return _to_columns(services, owner, upload)
    try:
        return see_other(f"/datasets/{_create(services, owner, upload).id}")
    except GenPlatError as error:
        if error.code == "missing_column" and _has_choice(upload):
            return _to_columns(services, owner, upload)
        draft = _offered(services, owner, upload) if error.details else None
        return _form(services, error, upload, draft)


def _has_choice(upload: Upload) -> bool:
    """Whether the file has columns to choose from: with a wrong delimiter, all is one."""
    return upload.has_file and len(inspect_file(upload.path, upload.filename).columns) > 1


def _to_columns(services: Services, owner: str, upload: Upload) -> Response:
    draft = keep_draft(storage=services.storage, owner=owner, upload=upload)
    return see_other(f"/datasets/drafts/{draft.id}")


def _offered(services: Services, owner: str, upload: Upload) -> Draft | None:
    """The upload as a draft, where some of its rows can be used."""
    try:
        found = inspect_file(upload.path, upload.filename, named_columns(upload.fields))
    except GenPlatError:
        return None
    if found.format is None or found.bad_rows == found.rows_checked:
        return None
    return keep_draft(storage=services.storage, owner=owner, upload=upload)


def _create(services: Services, owner: str, upload: Upload) -> Dataset:
    return create_from_form(
        database=services.database,
        storage=services.storage,
        owner=owner,
        upload=upload,
        name_by_file=True,
    )


@router.get("/drafts/{draft_id}")
def show_draft(draft_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    draft = open_draft(storage=services.storage, owner=owner, draft_id=draft_id)
    return _columns(draft, draft.fields)


@router.post("/drafts/{draft_id}")
async def create_from_draft(
    draft_id: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    form = await request.form()
    given = {name: text for name in FIELDS if isinstance(text := form.get(name, ""), str)}
    return await run_in_threadpool(_store_draft, services, owner, draft_id, given)


def _store_draft(services: Services, owner: str, draft_id: str, given: dict[str, str]) -> Response:
    draft = open_draft(storage=services.storage, owner=owner, draft_id=draft_id)
    upload = Upload(draft.path, fields=given | {"draft": draft_id})
    try:
        return see_other(f"/datasets/{_create(services, owner, upload).id}")
    except GenPlatError as error:
        return _columns(draft, given, error)


@router.get("/import")
def new_import(services: ServicesDep) -> Response:
    return _import_form(services, {"split": "train"})


@router.post("/import")
async def import_dataset(request: Request, services: ServicesDep, owner: PageOwnerDep) -> Response:
    form = await request.form()
    given = {
        name: text.strip() for name in IMPORT_FIELDS if isinstance(text := form.get(name, ""), str)
    }
    try:
        body = DatasetImport.model_validate({name: text for name, text in given.items() if text})
        made = await run_in_threadpool(create_from_hub, services=services, owner=owner, asked=body)
    except (GenPlatError, ValidationError) as error:
        return _import_form(services, given, error)
    return see_other(f"/datasets/{made.id}")


@router.post("/examples")
def use_examples(services: ServicesDep, owner: PageOwnerDep) -> Response:
    """The data of the demo, as if it had been uploaded."""
    made = store.create_dataset(
        database=services.database,
        storage=services.storage,
        owner=owner,
        source=examples_folder() / TRAINING,
        filename=TRAINING,
        name=EXAMPLES_NAME,
        description="Scenarios in words, each with the PlantUML code of its diagram.",
    )
    return see_other(f"/datasets/{made.id}")


def _shown(error: GenPlatError | None, fields: tuple[str, ...]) -> dict[str, Any]:
    """What a form shows of an error: places in the file are listed apart from the fields."""
    listed = error.details if error else []
    found = problems(error, () if listed else fields) if error else no_problems()
    return {"details": listed, "max_details": MAX_DETAILS, **found}


def _form(
    services: Services,
    error: GenPlatError | None = None,
    upload: Upload | None = None,
    draft: Draft | None = None,
) -> Response:
    """The upload form. A browser does not send its file again; everything else is kept."""
    given = upload.fields if upload else {}
    return page(
        "datasets/new.html",
        status=200 if error is None else UNPROCESSABLE,
        values={name: given.get(name, "") for name in FIELDS},
        filename=store.clean_filename(upload.filename) if upload else "",
        draft=draft.id if draft else "",
        samples=SAMPLES,
        max_bytes=services.settings.max_upload_bytes,
        **_shown(error, ("file", *FIELDS)),
    )


def _columns(draft: Draft, given: dict[str, str], error: GenPlatError | None = None) -> Response:
    """The page where columns are chosen from those that the file has."""
    found = inspect_file(draft.path, draft.filename)
    return page(
        "datasets/columns.html",
        status=200 if error is None else UNPROCESSABLE,
        draft=draft.id,
        filename=store.clean_filename(draft.filename),
        found=found,
        choices=[(name, name) for name in found.columns],
        values={name: given.get(name, "") or found.mapping.get(name, "") for name in FIELDS},
        **_shown(error, FIELDS),
    )


def _import_form(
    services: Services,
    given: dict[str, str],
    error: GenPlatError | ValidationError | None = None,
) -> Response:
    return page(
        "datasets/import.html",
        status=200 if error is None else UNPROCESSABLE,
        values={name: given.get(name, "") for name in IMPORT_FIELDS},
        root=services.settings.dataset_import_root,
        **(
            {"details": [], "max_details": MAX_DETAILS, **problems(error, IMPORT_FIELDS)}
            if isinstance(error, ValidationError)
            else _shown(error, IMPORT_FIELDS)
        ),
    )
