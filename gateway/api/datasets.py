"""Datasets over HTTP."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, field_validator
from starlette.concurrency import run_in_threadpool

from gateway import library
from gateway.datasets import preview, store
from gateway.datasets.upload import Upload, check_sha256, receive_upload
from gateway.deps import ListDep, ListPublic, OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim
from gateway.tables import Dataset
from shared.model_library import BUNDLED_MODEL
from shared.storage import sha256_of

router = APIRouter(prefix="/api/datasets", tags=["datasets"])

MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}
UPLOAD_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "name"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "name": {"type": "string", "maxLength": store.MAX_NAME},
                        "description": {"type": "string", "maxLength": store.MAX_DESCRIPTION},
                        "text_column": {"type": "string"},
                        "target_column": {"type": "string"},
                        "sha256": {
                            "type": "string",
                            "description": "Of the file's bytes: others are refused.",
                        },
                    },
                }
            }
        },
    }
}


class DatasetPublic(BaseModel):
    id: str
    name: str
    description: str
    version: int
    filename: str
    file_type: str
    format: str
    rows: int
    bytes: int
    sha256: str
    columns: list[str]
    warnings: list[str]
    created_at: datetime

    @field_validator("columns", mode="before")
    @classmethod
    def _encodable(cls, names: list[str]) -> list[str]:
        # An older version took what no answer can hold: one such dataset would break every list.
        return [preview.encodable(name) for name in names]


class DatasetList(ListPublic):
    data: list[DatasetPublic]


class SegmentPublic(BaseModel):
    """``learned``: the model is trained to write this part."""

    text: str
    learned: bool


class Preview(BaseModel):
    rows: list[dict[str, str]]
    base_model: str
    rendered: list[list[SegmentPublic]]


def public(dataset: Dataset) -> DatasetPublic:
    return DatasetPublic.model_validate(dataset, from_attributes=True)


@router.post("", status_code=201, response_model=DatasetPublic, openapi_extra=UPLOAD_SCHEMA)
async def create_dataset(
    request: Request, owner: OwnerDep, services: ServicesDep, once: OnceDep
) -> Response:
    """Upload a CSV or JSONL file. Under a name that is taken it becomes the next version."""
    async with receive_upload(
        content_type=request.headers.get("content-type", ""),
        stream=request.stream(),
        folder=services.storage.temporary(),
        max_bytes=services.settings.max_upload_bytes,
    ) as upload:
        await run_in_threadpool(check_sha256, upload)

        async def create(claim: Claim | None) -> DatasetPublic:
            made = await run_in_threadpool(
                store.create_dataset,
                database=services.database,
                storage=services.storage,
                owner=owner,
                source=upload.path,
                filename=upload.filename,
                name=upload.fields.get("name", ""),
                description=upload.fields.get("description", ""),
                text_column=upload.fields.get("text_column"),
                target_column=upload.fields.get("target_column"),
                claim=claim,
            )
            return public(made)

        async def load(dataset_id: str) -> DatasetPublic:
            return await run_in_threadpool(get_dataset, dataset_id, owner, services)

        fingerprint = await run_in_threadpool(_fingerprint, upload) if once.key else ""
        return await once(create, load=load, fingerprint=fingerprint)


def _fingerprint(upload: Upload) -> str:
    return f"{sha256_of(upload.path)} {upload.filename!r} {sorted(upload.fields.items())!r}"


@router.get("")
def list_datasets(owner: OwnerDep, services: ServicesDep, query: ListDep) -> DatasetList:
    page = store.list_datasets(
        database=services.database, owner=owner, after=query.after, limit=query.limit
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


@router.get("/{dataset_id}/content", response_class=FileResponse)
def download_dataset(dataset_id: str, owner: OwnerDep, services: ServicesDep) -> FileResponse:
    """The bytes as they were uploaded."""
    dataset = store.get_dataset(database=services.database, owner=owner, dataset_id=dataset_id)
    return FileResponse(
        services.storage.dataset_source(dataset.id),
        media_type=MEDIA_TYPES[dataset.file_type],
        filename=dataset.filename,
    )


@router.delete("/{dataset_id}", status_code=204, response_class=Response)
def delete_dataset(dataset_id: str, owner: OwnerDep, services: ServicesDep) -> None:
    store.delete_dataset(
        database=services.database, storage=services.storage, owner=owner, dataset_id=dataset_id
    )
