"""Batches: the list with the form for a new one, and the page that watches one."""

from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from starlette.concurrency import run_in_threadpool

from gateway.api.openai_files import BYTES
from gateway.batches import files, store
from gateway.batches.states import CANCELLABLE, ENDPOINTS, LIVE
from gateway.batches.store import BatchCreate
from gateway.datasets.upload import Upload
from gateway.deps import PageOwnerDep, ServicesDep, receive
from gateway.openai_api import files as openai_files
from gateway.openai_api import ids
from gateway.pages.html import UNPROCESSABLE, fragment, no_problems, page, problems, see_other
from gateway.paging import DEFAULT_LIMIT
from gateway.services import Services
from gateway.tables import Batch
from shared.errors import GenPlatError, NotFound

router = APIRouter(prefix="/batches", include_in_schema=False)

_SHOW = "batches/show.html"
_CHOICES = [(endpoint, endpoint) for endpoint in ENDPOINTS]


@router.get("")
def list_batches(services: ServicesDep, owner: PageOwnerDep, after: str | None = None) -> Response:
    return _page(services, owner, after=after)


@router.post("")
async def create_batch(request: Request, services: ServicesDep, owner: PageOwnerDep) -> Response:
    """The file is kept as one of `/v1/files`, and a batch made of it."""
    fields: dict[str, str] = {}
    try:
        async with receive(request, services) as upload:
            fields = upload.fields
            batch = await run_in_threadpool(_create, services, owner, upload)
    except GenPlatError as error:
        return await run_in_threadpool(
            _page,
            services,
            owner,
            status=UNPROCESSABLE,
            endpoint=fields.get("endpoint", ""),
            **problems(error, ["file", "endpoint"]),
        )
    services.batch_wanted.set()
    return see_other(f"/batches/{batch.id}")


def _create(services: Services, owner: str, upload: Upload) -> Batch:
    endpoint = upload.fields.get("endpoint", "")
    # (No file is kept for a batch that cannot be.)
    store.check_endpoint(endpoint)
    kept = files.keep_input(
        database=services.database,
        storage=services.storage,
        owner=owner,
        source=upload.path,
        filename=upload.filename,
    )
    body = BatchCreate(
        input_file_id=ids.file_id(kept.id),
        endpoint=endpoint,
        completion_window="24h",
    )
    return store.create_batch(database=services.database, owner=owner, body=body)


@router.get("/{batch_id}")
def show_batch(batch_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    return page(_SHOW, **_context(services, owner, batch_id))


@router.get("/{batch_id}/standing")
def show_standing(batch_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    """The state alone; the page asks for it while the batch is worked on."""
    return fragment(_SHOW, "standing", **_context(services, owner, batch_id))


@router.post("/{batch_id}/cancel")
async def cancel_batch(batch_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    await run_in_threadpool(
        store.cancel_batch, database=services.database, owner=owner, batch_id=batch_id
    )
    services.batch_wanted.set()
    return see_other(f"/batches/{batch_id}")


@router.get("/{batch_id}/{which}")
def download(
    batch_id: str, which: Literal["output", "errors"], services: ServicesDep, owner: PageOwnerDep
) -> Response:
    batch = store.get_batch(database=services.database, owner=owner, batch_id=batch_id)
    stored = batch.output_file_id if which == "output" else batch.error_file_id
    if stored is None:
        raise NotFound("This batch has no such file.")
    file = openai_files.get_file(
        database=services.database, owner=owner, file_id=ids.file_id(stored)
    )
    return FileResponse(services.storage.file(stored), media_type=BYTES, filename=file.filename)


def _context(services: Services, owner: str, batch_id: str) -> dict[str, Any]:
    batch = store.get_batch(database=services.database, owner=owner, batch_id=batch_id)
    return {
        "batch": batch,
        "live": batch.status in LIVE,
        "cancellable": batch.status in CANCELLABLE,
    }


def _page(
    services: Services,
    owner: str,
    *,
    status: int = 200,
    after: str | None = None,
    endpoint: str = "",
    **shown: Any,
) -> Response:
    found = store.list_batches(
        database=services.database, owner=owner, after=after, limit=DEFAULT_LIMIT
    )
    return page(
        "batches/list.html",
        status=status,
        batches=found.data,
        has_more=found.has_more,
        endpoints=_CHOICES,
        values={"endpoint": endpoint or ENDPOINTS[0]},
        max_bytes=files.MAX_BYTES,
        **(no_problems() | shown),
    )
