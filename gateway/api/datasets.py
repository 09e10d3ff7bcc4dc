"""Datasets over HTTP: what is there, what is in it, how versions differ."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse

from gateway import library
from gateway.api.dataset_shapes import (
    DatasetList,
    DatasetPublic,
    DiffPublic,
    Preview,
    SegmentPublic,
    public,
)
from gateway.datasets import diff, preview, store
from gateway.deps import ListDep, OwnerDep, ServicesDep
from shared.model_library import BUNDLED_MODEL

router = APIRouter(prefix="/api/datasets", tags=["datasets"])

MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}


@router.get("")
def list_datasets(
    owner: OwnerDep, services: ServicesDep, query: ListDep, name: str | None = None
) -> DatasetList:
    """The newest first; with ``name`` the versions of one dataset."""
    page = store.list_datasets(
        database=services.database, owner=owner, name=name, after=query.after, limit=query.limit
    )
    return DatasetList(data=[public(item) for item in page.data], has_more=page.has_more)


@router.get("/{dataset_id}")
def get_dataset(dataset_id: str, owner: OwnerDep, services: ServicesDep) -> DatasetPublic:
    return public(store.get_dataset(database=services.database, owner=owner, dataset_id=dataset_id))


@router.get("/{dataset_id}/preview")
def preview_dataset(
    dataset_id: str,
    owner: OwnerDep,
    services: ServicesDep,
    base_model: Annotated[str, Query(min_length=1, max_length=200)] = BUNDLED_MODEL,
    limit: Annotated[int, Query(ge=1, le=50)] = 5,
) -> Preview:
    """The first rows as uploaded, and as the base model's chat template renders them."""
    dataset = store.get_dataset(database=services.database, owner=owner, dataset_id=dataset_id)
    library.get_library_item(
        database=services.database, storage=services.storage, owner=owner, model_id=base_model
    )
    rendered = preview.rendered_rows(
        storage=services.storage, dataset=dataset, base_model=base_model, limit=limit
    )
    return Preview(
        rows=preview.raw_rows(storage=services.storage, dataset=dataset, limit=limit),
        base_model=base_model,
        rendered=[
            [SegmentPublic(text=part.text, learned=part.learned) for part in row]
            for row in rendered
        ],
    )


@router.get("/{dataset_id}/diff")
def diff_dataset(
    dataset_id: str, against: str, owner: OwnerDep, services: ServicesDep
) -> DiffPublic:
    """What changed from the dataset ``against`` to this one, in counts."""
    before, after = (
        store.get_dataset(database=services.database, owner=owner, dataset_id=wanted)
        for wanted in (against, dataset_id)
    )
    found = diff.diff_datasets(storage=services.storage, before=before, after=after)
    return DiffPublic(id=after.id, against=before.id, **asdict(found))


@router.get("/{dataset_id}/content", response_class=FileResponse)
def download_dataset(dataset_id: str, owner: OwnerDep, services: ServicesDep) -> FileResponse:
    """The bytes as they were uploaded."""
    dataset = store.get_dataset(database=services.database, owner=owner, dataset_id=dataset_id)
    return FileResponse(
        services.storage.dataset_source(dataset.id),
        media_type=MEDIA_TYPES[dataset.file_type],
        filename=dataset.filename,
    )


@router.get("/{dataset_id}/records", response_class=FileResponse)
def download_records(dataset_id: str, owner: OwnerDep, services: ServicesDep) -> FileResponse:
    """What is learned of it: a JSON line a row, in OpenAI's form (`messages`), whatever form the
    uploaded file has."""
    dataset = store.get_dataset(database=services.database, owner=owner, dataset_id=dataset_id)
    return FileResponse(
        services.storage.dataset_records(dataset.id),
        media_type=MEDIA_TYPES["jsonl"],
        filename=f"{dataset.id}.jsonl",
    )


@router.delete("/{dataset_id}", status_code=204, response_class=Response)
def delete_dataset(dataset_id: str, owner: OwnerDep, services: ServicesDep) -> None:
    store.delete_dataset(
        database=services.database, storage=services.storage, owner=owner, dataset_id=dataset_id
    )
