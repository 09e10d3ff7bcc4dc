"""`/v1/batches`: OpenAI's batches over GenPlat's models."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from gateway.batches import store
from gateway.batches.store import BatchCreate, BatchView, view_of
from gateway.deps import CallerDep, OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim
from gateway.paging import DEFAULT_LIMIT, MAX_LIMIT

router = APIRouter(prefix="/v1/batches", tags=["OpenAI"])


class BatchList(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchView]
    first_id: str | None
    last_id: str | None
    has_more: bool


@router.post("", response_model=BatchView)
async def create_batch(
    body: BatchCreate, services: ServicesDep, caller: CallerDep, once: OnceDep
) -> JSONResponse:
    """Have the requests of a file answered within a day. The file was uploaded with the purpose
    `batch`; its lines are checked first, and what is wrong with them is in `errors`."""

    owner, quota = caller.owner, caller.quota

    async def create(claim: Claim | None) -> BatchView:
        batch = await run_in_threadpool(
            store.create_batch,
            database=services.database,
            owner=owner,
            body=body,
            claim=claim,
            key_id=quota.key_id if quota is not None else None,
        )
        services.batch_wanted.set()
        return view_of(batch)

    async def load(batch_id: str) -> BatchView:
        return await run_in_threadpool(get_batch, batch_id, services, owner)

    return await once(create, status=200, load=load)


@router.get("")
def list_batches(
    services: ServicesDep,
    owner: OwnerDep,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
) -> BatchList:
    """Newest first."""
    page = store.list_batches(database=services.database, owner=owner, after=after, limit=limit)
    data = [view_of(batch) for batch in page.data]
    return BatchList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=page.has_more,
    )


@router.get("/{batch_id}")
def get_batch(batch_id: str, services: ServicesDep, owner: OwnerDep) -> BatchView:
    return view_of(store.get_batch(database=services.database, owner=owner, batch_id=batch_id))


@router.post("/{batch_id}/cancel")
async def cancel_batch(batch_id: str, services: ServicesDep, owner: OwnerDep) -> BatchView:
    """What is being answered is answered to its end; then the answers so far are in files."""
    batch = await run_in_threadpool(
        store.cancel_batch, database=services.database, owner=owner, batch_id=batch_id
    )
    services.batch_wanted.set()
    return view_of(batch)
