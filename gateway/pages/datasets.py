"""Datasets: upload with its errors by line, what is in one, and what a model sees of it."""

from pathlib import PurePath
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from gateway import library
from gateway.bundled_examples import TRAINING, examples_folder
from gateway.datasets import preview, store
from gateway.datasets.problems import MAX_DETAILS
from gateway.datasets.upload import Upload, receive_upload
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.pages.html import UNPROCESSABLE, no_problems, page, problems, see_other
from gateway.pages.model_choices import base_model_choices
from gateway.services import Services
from gateway.tables import Dataset
from shared.errors import GenPlatError
from shared.model_library import BUNDLED_MODEL
from ui.dataset_samples import SAMPLES

router = APIRouter(prefix="/datasets", include_in_schema=False)

FIELDS = ("name", "description", "text_column", "target_column")
EXAMPLES_NAME = "plantuml-examples"


@router.get("")
def list_datasets(services: ServicesDep, owner: PageOwnerDep, after: str | None = None) -> Response:
    found = store.list_datasets(database=services.database, owner=owner, after=after, limit=20)
    return page("datasets/list.html", datasets=found.data, has_more=found.has_more)


@router.get("/new")
def new_dataset(services: ServicesDep) -> Response:
    return _form(services)


@router.post("")
async def create_dataset(request: Request, services: ServicesDep, owner: PageOwnerDep) -> Response:
    upload: Upload | None = None
    try:
        async with receive_upload(
            content_type=request.headers.get("content-type", ""),
            stream=request.stream(),
            folder=services.storage.temporary(),
            max_bytes=services.settings.max_upload_bytes,
        ) as upload:
            made = await run_in_threadpool(_store, services, owner, upload)
    except GenPlatError as error:
        return _form(services, error, upload)
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


@router.get("/{dataset_id}")
def show_dataset(
    dataset_id: str, services: ServicesDep, owner: PageOwnerDep, base_model: str = BUNDLED_MODEL
) -> Response:
    return _show(services, owner, dataset_id, base_model)


@router.post("/{dataset_id}/delete")
def delete_dataset(dataset_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    try:
        store.delete_dataset(
            database=services.database, storage=services.storage, owner=owner, dataset_id=dataset_id
        )
    except GenPlatError as error:
        if error.status == 404:
            raise
        return _show(services, owner, dataset_id, error=error)
    return see_other("/datasets")


def _store(services: Services, owner: str, upload: Upload) -> Dataset:
    fields: dict[str, Any] = {name: upload.fields.get(name, "").strip() for name in FIELDS}
    fields["name"] = fields["name"] or PurePath(upload.filename.replace("\\", "/")).stem
    return store.create_dataset(
        database=services.database,
        storage=services.storage,
        owner=owner,
        source=upload.path,
        filename=upload.filename,
        **fields,
    )


def _form(
    services: Services, error: GenPlatError | None = None, upload: Upload | None = None
) -> Response:
    """The upload form. A browser does not send its file again; everything else is kept."""
    given = upload.fields if upload else {}
    shown: dict[str, Any] = {**no_problems()}
    if error is not None:
        shown = problems(error, () if error.details else ("file", *FIELDS))
    return page(
        "datasets/new.html",
        status=200 if error is None else UNPROCESSABLE,
        values={name: given.get(name, "") for name in FIELDS},
        details=error.details if error else [],
        max_details=MAX_DETAILS,
        filename=store.clean_filename(upload.filename) if upload else "",
        samples=SAMPLES,
        max_bytes=services.settings.max_upload_bytes,
        **shown,
    )


def _show(
    services: Services,
    owner: str,
    dataset_id: str,
    base_model: str = BUNDLED_MODEL,
    error: GenPlatError | None = None,
) -> Response:
    storage, database = services.storage, services.database
    dataset = store.get_dataset(database=database, owner=owner, dataset_id=dataset_id)
    shown = library.get_library_item(
        database=database, storage=storage, owner=owner, model_id=base_model
    )
    rows = preview.raw_rows(storage=storage, dataset=dataset)
    return page(
        "datasets/show.html",
        status=error.status if error else 200,
        dataset=dataset,
        error=error.message if error else None,
        rows=rows,
        columns=list(dict.fromkeys(name for row in rows for name in row)),
        base_models=base_model_choices(services, owner),
        shown_model=shown,
        rendered=preview.rendered_rows(
            storage=storage, dataset=dataset, base_model=base_model, limit=3
        ),
    )
