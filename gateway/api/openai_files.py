"""`/v1/files`: datasets, results of runs and files of batches, in the shape of OpenAI's files.

What a key must hold depends on the file's purpose: who may ask models may have batches.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from gateway import run_views
from gateway.batches.files import keep_input
from gateway.datasets import store
from gateway.datasets.upload import Upload, check_sha256
from gateway.deps import Caller, CallerDep, OnceDep, ServicesDep, receive, require
from gateway.idempotency import Claim
from gateway.openai_api import files, ids
from gateway.openai_api.files import File
from gateway.scopes import Scope, may
from gateway.services import Services
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
                        "purpose": {"type": "string", "enum": [files.FINE_TUNE, files.BATCH]},
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
        expires_at=int(file.expires_at.timestamp()) if file.expires_at else None,
    )


def _reads(purpose: str) -> tuple[Scope, ...]:
    """Scopes of which one is enough to see a file of this purpose."""
    return ("read", "infer") if purpose in (files.BATCH, files.BATCH_OUTPUT) else ("read",)


def _writes(purpose: str) -> Scope:
    return "infer" if purpose in (files.BATCH, files.BATCH_OUTPUT) else "train"


@router.post("", response_model=FilePublic, openapi_extra=UPLOAD_SCHEMA)
async def create_file(
    request: Request, caller: CallerDep, services: ServicesDep, once: OnceDep
) -> JSONResponse:
    """Upload a file to learn from (`fine-tune`): it becomes a dataset of the file's name, and is
    checked line by line. Or one of requests (`batch`), which a batch checks."""
    owner = caller.owner
    if not may(caller.scopes, "infer"):
        # Whatever it is for, and before gigabytes are taken in.
        require(caller, "train")
    async with receive(request, services) as upload:
        seconds = files.check_form(upload.fields)
        purpose = upload.fields["purpose"]
        require(caller, _writes(purpose))
        await run_in_threadpool(check_sha256, upload)

        async def load(stored_id: str) -> FilePublic:
            file_id = ids.file_id(stored_id)
            return _public(
                await run_in_threadpool(
                    files.get_file, database=services.database, owner=owner, file_id=file_id
                )
            )

        def keep(claim: Claim | None) -> str:
            given: dict[str, Any] = {
                "database": services.database,
                "storage": services.storage,
                "owner": owner,
                "source": upload.path,
                "filename": upload.filename,
                "claim": claim,
            }
            if purpose == files.BATCH:
                return keep_input(**given, seconds=seconds).id
            return store.create_dataset(**given, name=files.dataset_name(upload.filename)).id

        async def create(claim: Claim | None) -> FilePublic:
            return await load(await run_in_threadpool(keep, claim))

        fingerprint = await run_in_threadpool(_fingerprint, upload) if once.key else ""
        return await once(create, status=200, load=load, fingerprint=fingerprint)


def _fingerprint(upload: Upload) -> str:
    return f"{sha256_of(upload.path)} {upload.filename!r} {sorted(upload.fields.items())!r}"


@router.get("")
def list_files(
    caller: CallerDep,
    services: ServicesDep,
    purpose: str | None = None,
    order: files.Order = "desc",
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=files.MAX_LISTED)] = files.MAX_LISTED,
) -> FileList:
    """Datasets (`fine-tune`), results of jobs (`fine-tune-results`), requests and answers of
    batches (`batch`, `batch_output`)."""
    page = files.list_files(
        database=services.database,
        owner=caller.owner,
        purpose=purpose,
        purposes=[one for one in files.PURPOSES if _may_see(caller, one)],
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


def _may_see(caller: Caller, purpose: str) -> bool:
    return any(may(caller.scopes, scope) for scope in _reads(purpose))


def _found(caller: Caller, services: Services, file_id: str) -> File:
    """A file that the caller may see."""
    file = files.get_file(database=services.database, owner=caller.owner, file_id=file_id)
    if not _may_see(caller, file.purpose):
        require(caller, _reads(file.purpose)[0])
    return file


@router.get("/{file_id}")
def get_file(file_id: str, caller: CallerDep, services: ServicesDep) -> FilePublic:
    return _public(_found(caller, services, file_id))


@router.get("/{file_id}/content", response_class=Response)
def file_content(file_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """The bytes as they were uploaded; of a job's results a CSV, of a batch's a line a request."""
    file = _found(caller, services, file_id)
    if file.purpose == files.RESULTS:
        rows = run_views.run_metrics(
            database=services.database, owner=caller.owner, run_id=file.stored_id
        )
        return Response(files.result_csv(rows), media_type=BYTES)
    if file.purpose == files.FINE_TUNE:
        source = services.storage.dataset_source(file.stored_id)
    else:
        source = services.storage.file(file.stored_id)
    return FileResponse(source, media_type=BYTES, filename=file.filename)


@router.delete("/{file_id}")
def delete_file(file_id: str, caller: CallerDep, services: ServicesDep) -> FileDeleted:
    """Delete a dataset, or a file of a batch. Jobs that have ended keep their models."""
    require(caller, _writes(_found(caller, services, file_id).purpose))
    files.delete_file(
        database=services.database,
        storage=services.storage,
        owner=caller.owner,
        file_id=file_id,
    )
    return FileDeleted(id=file_id)
