"""Datasets: the list, what is in one and what a model sees of it, how two versions differ."""

from fastapi import APIRouter
from fastapi.responses import Response

from gateway import library
from gateway.datasets import preview, store
from gateway.datasets.diff import diff_datasets
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.pages.html import page, see_other
from gateway.pages.model_choices import base_model_choices
from gateway.services import Services
from shared.errors import GenPlatError
from shared.model_library import BUNDLED_MODEL

router = APIRouter(prefix="/datasets", include_in_schema=False)

MAX_VERSIONS = 50


@router.get("")
def list_datasets(services: ServicesDep, owner: PageOwnerDep, after: str | None = None) -> Response:
    found = store.list_datasets(database=services.database, owner=owner, after=after, limit=20)
    return page("datasets/list.html", datasets=found.data, has_more=found.has_more)


@router.get("/{dataset_id}")
def show_dataset(
    dataset_id: str, services: ServicesDep, owner: PageOwnerDep, base_model: str = BUNDLED_MODEL
) -> Response:
    return _show(services, owner, dataset_id, base_model)


@router.get("/{dataset_id}/diff")
def diff_dataset(
    dataset_id: str, services: ServicesDep, owner: PageOwnerDep, against: str
) -> Response:
    before, after = (
        store.get_dataset(database=services.database, owner=owner, dataset_id=wanted)
        for wanted in (against, dataset_id)
    )
    diff = diff_datasets(storage=services.storage, before=before, after=after)
    return page("datasets/diff.html", before=before, after=after, diff=diff)


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
    versions = store.list_datasets(
        database=database, owner=owner, name=dataset.name, limit=MAX_VERSIONS
    )
    rows = preview.raw_rows(storage=storage, dataset=dataset)
    return page(
        "datasets/show.html",
        status=error.status if error else 200,
        dataset=dataset,
        error=error.message if error else None,
        versions=versions.data,
        rows=rows,
        columns=list(dict.fromkeys(name for row in rows for name in row)),
        base_models=base_model_choices(services, owner),
        shown_model=shown,
        rendered=preview.rendered_rows(
            storage=storage, dataset=dataset, base_model=base_model, limit=3
        ),
    )
