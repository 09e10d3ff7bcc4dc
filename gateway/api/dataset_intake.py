"""How data comes in over HTTP: uploads, looks at a file before it is stored, imports from a hub."""

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from gateway.api.dataset_shapes import (
    INSPECT_SCHEMA,
    UPLOAD_SCHEMA,
    DatasetPublic,
    InspectionPublic,
    public,
)
from gateway.datasets import drafts, store
from gateway.datasets.inspection import inspect_file
from gateway.datasets.submission import (
    DatasetImport,
    create_from_form,
    create_from_hub,
    named_columns,
)
from gateway.datasets.upload import Upload, check_sha256
from gateway.deps import OnceDep, OwnerDep, ServicesDep, receive
from gateway.idempotency import Claim
from gateway.services import Services
from shared.errors import InvalidRequest
from shared.storage import sha256_of

router = APIRouter(prefix="/api/datasets", tags=["datasets"])


@router.post("", status_code=201, response_model=DatasetPublic, openapi_extra=UPLOAD_SCHEMA)
async def create_dataset(
    request: Request, owner: OwnerDep, services: ServicesDep, once: OnceDep
) -> Response:
    """Upload a CSV, JSONL, JSON or Parquet file, or name a draft. Under a name that is taken it
    becomes the next version."""
    async with receive(request, services) as upload:
        if upload.has_file:
            await run_in_threadpool(check_sha256, upload)

        async def create(claim: Claim | None) -> DatasetPublic:
            made = await run_in_threadpool(
                create_from_form,
                database=services.database,
                storage=services.storage,
                owner=owner,
                upload=upload,
                claim=claim,
            )
            return public(made)

        async def load(dataset_id: str) -> DatasetPublic:
            return await run_in_threadpool(_load, services, owner, dataset_id)

        fingerprint = await run_in_threadpool(_fingerprint, upload) if once.key else ""
        return await once(create, load=load, fingerprint=fingerprint)


@router.post("/inspect", openapi_extra=INSPECT_SCHEMA)
async def inspect_upload(
    request: Request, owner: OwnerDep, services: ServicesDep
) -> InspectionPublic:
    """Send a file to see its columns and problems. It waits an hour to become a dataset."""
    async with receive(request, services) as upload:
        return await run_in_threadpool(_inspect, services, owner, upload)


def _inspect(services: Services, owner: str, upload: Upload) -> InspectionPublic:
    if not upload.has_file:
        raise InvalidRequest("Send the file to look at in the field `file`.", param="file")
    found = inspect_file(upload.path, upload.filename, named_columns(upload.fields))
    draft = drafts.keep_draft(storage=services.storage, owner=owner, upload=upload)
    filename = store.clean_filename(upload.filename)
    return InspectionPublic(draft=draft.id, filename=filename, **vars(found))


@router.post("/import", status_code=201, response_model=DatasetPublic)
async def import_dataset(
    body: DatasetImport, owner: OwnerDep, services: ServicesDep, once: OnceDep
) -> Response:
    """A split of a repository: from a local folder under GENPLAT_DATASET_ROOT, from the cache of
    Hugging Face's libraries, else from the hub. No code of it is run."""

    async def create(claim: Claim | None) -> DatasetPublic:
        made = await run_in_threadpool(
            create_from_hub, services=services, owner=owner, asked=body, claim=claim
        )
        return public(made)

    async def load(dataset_id: str) -> DatasetPublic:
        return await run_in_threadpool(_load, services, owner, dataset_id)

    return await once(create, load=load)


def _load(services: Services, owner: str, dataset_id: str) -> DatasetPublic:
    found = store.get_dataset(database=services.database, owner=owner, dataset_id=dataset_id)
    return public(found)


def _fingerprint(upload: Upload) -> str:
    return f"{sha256_of(upload.path)} {upload.filename!r} {sorted(upload.fields.items())!r}"
