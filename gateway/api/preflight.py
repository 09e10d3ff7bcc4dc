"""Pre-flight reports over HTTP: what a run would meet, before it is started."""

from typing import Literal, Self

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, model_validator

from gateway import preflight
from gateway.deps import OwnerDep, ServicesDep
from shared.errors import InvalidData
from shared.preflight import PreflightReport
from shared.runs import FineTuneSpec

router = APIRouter(prefix="/api", tags=["preflight"])

# As long as a request waits for its report before it is told to come back.
WAIT_SECONDS = 60.0


class PreflightRequest(FineTuneSpec):
    """A `FineTuneSpec` that need not name the dataset of its path."""

    @model_validator(mode="after")
    def _one_way_to_name_data(self) -> Self:
        return self

    def spec_for(self, dataset_id: str) -> FineTuneSpec:
        """The run on the dataset of the path, alone or among others."""
        named = {source.id for source in self.sources}
        if named and dataset_id not in named:
            field = "dataset_id" if self.dataset_id is not None else "datasets"
            raise InvalidData(
                f"{field} does not name the dataset of the path. Leave it out.", param=field
            )
        given = self.model_dump(exclude_unset=True)
        return FineTuneSpec.model_validate(given if named else given | {"dataset_id": dataset_id})


class PreflightPublic(BaseModel):
    """``running`` without a report: ask for `GET /api/preflights/{id}` until it is there."""

    id: str
    object: Literal["preflight"] = "preflight"
    status: Literal["running", "done", "failed"]
    report: PreflightReport | None = Field(None)


def public(preflight_id: str, report: PreflightReport | None) -> PreflightPublic:
    status = report.status if report is not None else "running"
    return PreflightPublic(id=preflight_id, status=status, report=report)


@router.post(
    "/datasets/{dataset_id}/preflight",
    responses={202: {"model": PreflightPublic, "description": "The check is under way."}},
)
async def check_run(
    dataset_id: str,
    body: PreflightRequest,
    response: Response,
    services: ServicesDep,
    owner: OwnerDep,
) -> PreflightPublic:
    """Check a run on this dataset before it is started: data, lengths, template, labels, memory
    and time. The same question again is answered at once."""
    spec = body.spec_for(dataset_id)
    preflight_id = await preflight.start(services=services, owner=owner, spec=spec)
    report = await preflight.wait(
        services=services, owner=owner, preflight_id=preflight_id, seconds=WAIT_SECONDS
    )
    response.status_code = 200 if report is not None else 202
    return public(preflight_id, report)


@router.get(
    "/preflights/{preflight_id}",
    responses={202: {"model": PreflightPublic, "description": "The check is under way."}},
)
async def get_preflight(
    preflight_id: str, response: Response, services: ServicesDep, owner: OwnerDep
) -> PreflightPublic:
    """A report that was asked for before."""
    report = await preflight.find(services=services, owner=owner, preflight_id=preflight_id)
    response.status_code = 200 if report is not None else 202
    return public(preflight_id, report)
