"""The request log over HTTP: looked up, counted, rated, made a dataset of."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from gateway.api.dataset_shapes import DatasetPublic, public
from gateway.deps import ListPublic, OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim
from gateway.paging import DEFAULT_LIMIT
from gateway.request_log import feedback, harvest, queries
from gateway.request_log.feedback import FeedbackSpec
from gateway.request_log.harvest import HarvestSpec
from gateway.request_log.queries import RequestFilter
from gateway.tables import LoggedRequest

router = APIRouter(prefix="/api/requests", tags=["requests"])
# Whoever may ask models may say what the answers were worth.
ratings = APIRouter(prefix="/api/requests", tags=["requests"])

# Of a text in a list; the request itself has all of it.
SHOWN = 2000


class ListedRequest(BaseModel):
    """A request in a list: texts are cut after 2,000 characters."""

    id: str
    created_at: datetime
    kind: str
    client: str | None
    key_id: str | None
    request_id: str | None
    completion_id: str | None
    model: str
    route: str | None
    drawn: str | None
    served_by: str | None
    continued_by: str | None
    fallbacks: int
    fallback_reason: str | None
    shadow_of: str | None
    status: int
    error_code: str | None
    stream: bool
    seconds: float
    first_token_seconds: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str | None
    rendered: bool | None
    prompt: str | None
    reply: str | None
    withheld: str | None
    tags: list[str]
    judge_score: float | None
    feedback: int | None
    feedback_comment: str | None
    correction: str | None
    feedback_at: datetime | None


class RatedPublic(BaseModel):
    """What was said of an answer. (Of the answer nothing: it takes another scope to read it.)"""

    id: str
    feedback: int | None
    feedback_comment: str | None
    correction: str | None
    feedback_at: datetime | None


class RequestPublic(ListedRequest):
    """A request with all that was said."""

    messages: list[dict[str, str]] | None
    parameters: dict[str, Any]


class RequestList(ListPublic):
    data: list[ListedRequest]


class SecondsPublic(BaseModel):
    p50: float | None
    p95: float | None


class NameCount(BaseModel):
    name: str
    count: int


class SummaryPublic(BaseModel):
    """Counts; ``seconds`` are of the newest 10,000 that were answered."""

    count: int
    failed: int
    fallbacks: int
    continued: int
    thumbs_up: int
    thumbs_down: int
    prompt_tokens: int
    completion_tokens: int
    first: datetime | None
    last: datetime | None
    seconds: SecondsPublic
    by: dict[str, list[NameCount]]


def _listed(row: LoggedRequest) -> ListedRequest:
    shown = row.model_dump()
    for name in ("prompt", "reply", "correction"):
        if shown[name] is not None:
            shown[name] = shown[name][:SHOWN]
    return ListedRequest.model_validate(shown)


class RequestQuery(RequestFilter):
    """Which requests, and which part of the list."""

    after: str | None = None
    limit: int = DEFAULT_LIMIT

    @property
    def wanted(self) -> RequestFilter:
        return RequestFilter.model_validate(self.model_dump(exclude={"after", "limit"}))


@router.get("")
async def list_requests(
    owner: OwnerDep, services: ServicesDep, query: Annotated[RequestQuery, Query()]
) -> RequestList:
    """Requests that models were asked, the newest first."""
    await services.log.flush()
    page = await run_in_threadpool(
        queries.list_requests,
        database=services.database,
        owner=owner,
        wanted=query.wanted,
        after=query.after,
        limit=query.limit,
    )
    return RequestList(data=[_listed(row) for row in page.data], has_more=page.has_more)


@router.get("/summary")
async def summarize_requests(
    owner: OwnerDep, services: ServicesDep, query: Annotated[RequestFilter, Query()]
) -> SummaryPublic:
    """How many there are, how they ended, who answered."""
    await services.log.flush()
    found = await run_in_threadpool(
        queries.summarize, database=services.database, owner=owner, wanted=query
    )
    by = {
        name: [NameCount(name=value, count=count) for value, count in counts]
        for name, counts in found.by.items()
    }
    seconds = SecondsPublic(p50=found.seconds.p50, p95=found.seconds.p95)
    return SummaryPublic.model_validate(vars(found) | {"seconds": seconds, "by": by})


@router.post("/dataset", status_code=201, response_model=DatasetPublic)
async def make_dataset(
    spec: HarvestSpec, owner: OwnerDep, services: ServicesDep, once: OnceDep
) -> JSONResponse:
    """A dataset of conversations and their answers, for fine-tuning."""
    await services.log.flush()

    async def create(claim: Claim | None) -> DatasetPublic:
        made = await run_in_threadpool(
            harvest.make_dataset,
            database=services.database,
            storage=services.storage,
            owner=owner,
            spec=spec,
            claim=claim,
        )
        return public(made)

    return await once(create)


@router.get("/{request_id}")
async def get_request(request_id: str, owner: OwnerDep, services: ServicesDep) -> RequestPublic:
    """By the id in the header `x-genplat-request-id`, or by the answer's own (`chatcmpl-…`)."""
    await services.log.flush()
    row = await run_in_threadpool(
        queries.get_request, database=services.database, owner=owner, request_id=request_id
    )
    return RequestPublic.model_validate(row.model_dump())


@ratings.post("/{request_id}/feedback")
async def rate_request(
    request_id: str, spec: FeedbackSpec, owner: OwnerDep, services: ServicesDep
) -> RatedPublic:
    """Thumbs, a comment, or the answer that it should have been."""
    await services.log.flush()
    row = await run_in_threadpool(
        feedback.rate,
        database=services.database,
        owner=owner,
        request_id=request_id,
        spec=spec,
        masks=services.settings.request_log_masks,
    )
    return RatedPublic.model_validate(row.model_dump())
