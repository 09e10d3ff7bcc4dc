"""`/v1/files`: datasets and results of runs, in the shape of OpenAI's files."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from gateway import run_views
from gateway.datasets import store
from gateway.datasets.upload import Upload, check_sha256
from gateway.deps import OnceDep, OwnerDep, ServicesDep, receive
from gateway.idempotency import Claim
from gateway.openai_api import files, ids
from gateway.openai_api.files import File
from shared.storage import sha256_of

router = APIRouter(prefix="/v1/files", tags=["OpenAI"])

# What people uploaded is handed back as bytes: nothing that a browser would show.
BYTES = "application/octet-stream"
UPLOAD_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": [files.FINE_TUNE]},
                    },
                }
            }
        },
    }
}


class FilePublic(BaseModel):
    """Times are Unix seconds."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: str | None = None


class FileList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FilePublic]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


def _public(file: File) -> FilePublic:
    return FilePublic(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at.timestamp()),
        filename=file.filename,
        purpose=file.purpose,
    )


@router.post("", response_model=FilePublic, openapi_extra=UPLOAD_SCHEMA)
async def create_file(
    request: Request, owner: OwnerDep, services: ServicesDep, once: OnceDep
) -> JSONResponse:
    """Upload a file to learn from: it becomes a dataset of the file's name, and is checked line
    by line."""
    async with receive(request, services) as upload:
        files.check_form(upload.fields)
        await run_in_threadpool(check_sha256, upload)

        async def load(dataset_id: str) -> FilePublic:
            return await run_in_threadpool(get_file, ids.file_id(dataset_id), owner, services)

        async def create(claim: Claim | None) -> FilePublic:
            made = await run_in_threadpool(
                store.create_dataset,
                database=services.database,
                storage=services.storage,
                owner=owner,
                source=upload.path,
                filename=upload.filename,
                name=files.dataset_name(upload.filename),
                claim=claim,
            )
            return await load(made.id)

        fingerprint = await run_in_threadpool(_fingerprint, upload) if once.key else ""
        return await once(create, status=200, load=load, fingerprint=fingerprint)


def _fingerprint(upload: Upload) -> str:
    return f"{sha256_of(upload.path)} {upload.filename!r} {sorted(upload.fields.items())!r}"


@router.get("")
def list_files(
    owner: OwnerDep,
    services: ServicesDep,
    purpose: str | None = None,
    order: files.Order = "desc",
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=files.MAX_LISTED)] = files.MAX_LISTED,
) -> FileList:
    """Datasets (`fine-tune`) and the results of jobs (`fine-tune-results`)."""
    page = files.list_files(
        database=services.database,
        owner=owner,
        purpose=purpose,
        order=order,
        after=after,
        limit=limit,
    )
    data = [_public(file) for file in page.data]
    return FileList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=page.has_more,
    )


@router.get("/{file_id}")
def get_file(file_id: str, owner: OwnerDep, services: ServicesDep) -> FilePublic:
    return _public(files.get_file(database=services.database, owner=owner, file_id=file_id))


@router.get("/{file_id}/content", response_class=Response)
def file_content(file_id: str, owner: OwnerDep, services: ServicesDep) -> Response:
    """The bytes as they were uploaded; of a job's results, a CSV."""
    file = files.get_file(database=services.database, owner=owner, file_id=file_id)
    if file.purpose == files.FINE_TUNE:
        source = services.storage.dataset_source(file.stored_id)
        return FileResponse(source, media_type=BYTES, filename=file.filename)
    rows = run_views.run_metrics(database=services.database, owner=owner, run_id=file.stored_id)
    return Response(files.result_csv(rows), media_type=BYTES)


@router.delete("/{file_id}")
def delete_file(file_id: str, owner: OwnerDep, services: ServicesDep) -> FileDeleted:
    """Delete a dataset. Jobs that have ended keep their models."""
    files.delete_file(
        database=services.database, storage=services.storage, owner=owner, file_id=file_id
    )
    return FileDeleted(id=file_id)
