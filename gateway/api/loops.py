"""`/api/loops`: retrain, evaluate, gate, deploy and promote, from one request."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from gateway.deps import ListDep, ListPublic, OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim
from gateway.loops import views
from gateway.loops.spec import LoopSpec
from gateway.loops.views import LoopView

router = APIRouter(prefix="/api/loops", tags=["loops"])


@router.post("", status_code=202, response_model=LoopView)
async def create_loop(
    spec: LoopSpec, services: ServicesDep, owner: OwnerDep, once: OnceDep
) -> JSONResponse:
    """A run like an earlier one on other data, evaluated like before; where the rules hold it is
    deployed and gets its share of a route, in the background."""

    async def create(claim: Claim | None) -> LoopView:
        return await run_in_threadpool(
            views.create_loop, services=services, owner=owner, spec=spec, claim=claim
        )

    async def load(loop_id: str) -> LoopView:
        return views.get_loop(database=services.database, owner=owner, loop_id=loop_id)

    return await once(create, status=202, load=load)


@router.get("")
def list_loops(services: ServicesDep, owner: OwnerDep, query: ListDep) -> ListPublic:
    page = views.list_loops(
        database=services.database, owner=owner, after=query.after, limit=query.limit
    )
    return ListPublic(data=page.data, has_more=page.has_more)


@router.get("/{loop_id}")
def get_loop(loop_id: str, services: ServicesDep, owner: OwnerDep) -> LoopView:
    return views.get_loop(database=services.database, owner=owner, loop_id=loop_id)


@router.post("/{loop_id}/cancel")
def cancel_loop(loop_id: str, services: ServicesDep, owner: OwnerDep) -> LoopView:
    """No further stage begins; what it started goes on by itself."""
    return views.cancel_loop(database=services.database, owner=owner, loop_id=loop_id)


@router.delete("/{loop_id}", status_code=204, response_class=Response)
def delete_loop(loop_id: str, services: ServicesDep, owner: OwnerDep) -> None:
    views.delete_loop(database=services.database, owner=owner, loop_id=loop_id)
