"""`/api/syntheses`: rows that a model writes, sifted, reviewed and made a dataset."""

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Path, Query
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from gateway.api.dataset_shapes import DatasetPublic, public
from gateway.datasets.store import get_dataset
from gateway.deps import ListDep, ListPublic, OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim
from gateway.synthesis import finishing, reviewing, views
from gateway.synthesis.finishing import FinishSpec
from gateway.synthesis.reviewing import MAX_NUMBER, ReviewSpec, RowStatus, RowView
from gateway.synthesis.spec import SynthesisSpec
from gateway.synthesis.views import SynthesisView

router = APIRouter(prefix="/api/syntheses", tags=["syntheses"])


@router.post("", status_code=202, response_model=SynthesisView)
async def create_synthesis(
    spec: SynthesisSpec, services: ServicesDep, owner: OwnerDep, once: OnceDep
) -> JSONResponse:
    """Have a model write rows after the example of a dataset, or against an evaluation's failures,
    in the background."""

    async def create(claim: Claim | None) -> SynthesisView:
        return await views.create_synthesis(services=services, owner=owner, spec=spec, claim=claim)

    async def load(synthesis_id: str) -> SynthesisView:
        return views.get_synthesis(
            database=services.database, owner=owner, synthesis_id=synthesis_id
        )

    return await once(create, status=202, load=load)


@router.get("")
def list_syntheses(services: ServicesDep, owner: OwnerDep, query: ListDep) -> ListPublic:
    page = views.list_syntheses(
        database=services.database, owner=owner, after=query.after, limit=query.limit
    )
    return ListPublic(data=page.data, has_more=page.has_more)


@router.get("/{synthesis_id}")
def get_synthesis(synthesis_id: str, services: ServicesDep, owner: OwnerDep) -> SynthesisView:
    return views.get_synthesis(database=services.database, owner=owner, synthesis_id=synthesis_id)


@router.get("/{synthesis_id}/rows")
def list_rows(
    synthesis_id: str,
    services: ServicesDep,
    owner: OwnerDep,
    status: RowStatus | Literal["kept"] | None = None,
    after: Annotated[int | None, Query(ge=0, le=MAX_NUMBER)] = None,
    limit: int = 20,
) -> ListPublic:
    """In their order; ``after`` is the number of the last one that was seen."""
    rows, has_more = reviewing.list_rows(
        database=services.database,
        owner=owner,
        synthesis_id=synthesis_id,
        status=status,
        after=after,
        limit=limit,
    )
    return ListPublic(data=rows, has_more=has_more)


@router.patch("/{synthesis_id}/rows/{number}")
def review_row(
    synthesis_id: str,
    number: Annotated[int, Path(ge=1, le=MAX_NUMBER)],
    spec: ReviewSpec,
    services: ServicesDep,
    owner: OwnerDep,
) -> RowView:
    """Accept, edit or reject a row, or let it be looked at again."""
    return reviewing.review_row(
        services=services, owner=owner, synthesis_id=synthesis_id, number=number, spec=spec
    )


@router.post("/{synthesis_id}/accept-all")
def accept_all(synthesis_id: str, services: ServicesDep, owner: OwnerDep) -> SynthesisView:
    """All rows that nobody has looked at."""
    return reviewing.accept_all(database=services.database, owner=owner, synthesis_id=synthesis_id)


@router.post("/{synthesis_id}/finish", status_code=201, response_model=DatasetPublic)
async def finish_synthesis(
    synthesis_id: str,
    services: ServicesDep,
    owner: OwnerDep,
    once: OnceDep,
    spec: Annotated[FinishSpec, Body(default_factory=FinishSpec)],
) -> JSONResponse:
    """Make a dataset of the accepted rows, by default as the next version of the seed's."""

    async def create(claim: Claim | None) -> DatasetPublic:
        made = await run_in_threadpool(
            finishing.finish_synthesis,
            services=services,
            owner=owner,
            synthesis_id=synthesis_id,
            spec=spec,
            claim=claim,
        )
        return public(made)

    async def load(dataset_id: str) -> DatasetPublic:
        return public(get_dataset(database=services.database, owner=owner, dataset_id=dataset_id))

    return await once(create, load=load)


@router.post("/{synthesis_id}/cancel")
def cancel_synthesis(synthesis_id: str, services: ServicesDep, owner: OwnerDep) -> SynthesisView:
    return views.cancel_synthesis(
        database=services.database, owner=owner, synthesis_id=synthesis_id
    )


@router.delete("/{synthesis_id}", status_code=204, response_class=Response)
def delete_synthesis(synthesis_id: str, services: ServicesDep, owner: OwnerDep) -> None:
    views.delete_synthesis(database=services.database, owner=owner, synthesis_id=synthesis_id)
