"""The request log: looked through, counted, rated, made a dataset of."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from gateway import keys
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.pages.html import UNPROCESSABLE, no_problems, page, problems, see_other
from gateway.paging import MAX_LIMIT
from gateway.request_log import feedback, harvest, queries
from gateway.request_log.feedback import FeedbackSpec
from gateway.request_log.harvest import HarvestSpec
from gateway.request_log.queries import RequestFilter
from gateway.services import Services
from gateway.tables import LoggedRequest
from shared.errors import GenPlatError
from ui import request_filter
from ui.request_story import answered_by, story

router = APIRouter(prefix="/requests", include_in_schema=False)

SHOWN = 50
# (A form sends no wrong rating.)
SAID = ("rating", "comment", "correction")


@router.get("")
async def list_requests(request: Request, services: ServicesDep, owner: PageOwnerDep) -> Response:
    await services.log.flush()
    values = request_filter.values_of(request.query_params)
    after = request.query_params.get("after") or None
    return await run_in_threadpool(_list, services, owner, values, after=after)


@router.post("/dataset")
async def make_dataset(request: Request, services: ServicesDep, owner: PageOwnerDep) -> Response:
    """The filter comes along in hidden fields."""
    form = _texts(await request.form())
    values, name = request_filter.values_of(form), form.get("name", "").strip()
    await services.log.flush()
    try:
        spec = HarvestSpec.model_validate(
            {"name": name, "requests": request_filter.conditions(values)}
        )
        made = await run_in_threadpool(
            harvest.make_dataset,
            database=services.database,
            storage=services.storage,
            owner=owner,
            spec=spec,
        )
    except (GenPlatError, ValidationError) as error:
        shown = {"name": name} | problems(error, ("name",))
        return await run_in_threadpool(_list, services, owner, values, harvest=shown)
    return see_other(f"/datasets/{made.id}")


@router.get("/{request_id}")
async def show_request(request_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    await services.log.flush()
    return await run_in_threadpool(_show, services, owner, request_id)


@router.post("/{request_id}/feedback")
async def rate_request(
    request_id: str,
    request: Request,
    services: ServicesDep,
    owner: PageOwnerDep,
    accept: Annotated[str, Header()] = "",
) -> Response:
    """Only what is sent is changed. The chat's script asks for JSON and needs no page."""
    said = {name: text for name, text in _texts(await request.form()).items() if name in SAID}
    await services.log.flush()
    try:
        # The rating of nothing takes an earlier one back.
        spec = FeedbackSpec.model_validate(
            {name: text if text or name != "rating" else None for name, text in said.items()}
        )
        await run_in_threadpool(
            feedback.rate,
            database=services.database,
            owner=owner,
            request_id=request_id,
            spec=spec,
            masks=services.settings.request_log_masks,
        )
    except (GenPlatError, ValidationError) as error:
        if isinstance(error, GenPlatError) and error.status == 404:
            raise
        return await run_in_threadpool(_show, services, owner, request_id, said, error)
    if "application/json" in accept:
        return Response(status_code=204)
    return see_other(f"/requests/{request_id}")


def _texts(form: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in form.items() if isinstance(value, str)}


def _list(
    services: Services,
    owner: str,
    values: dict[str, str],
    *,
    after: str | None = None,
    harvest: dict[str, Any] | None = None,
) -> Response:
    asked: dict[str, Any] = {"database": services.database, "owner": owner}
    shown = no_problems()
    try:
        wanted = RequestFilter.model_validate(request_filter.conditions(values))
    except ValidationError as error:
        # What cannot be a condition is said, and all requests are shown.
        wanted, shown = RequestFilter.model_validate({}), problems(error, request_filter.FIELDS)
    found = queries.list_requests(**asked, wanted=wanted, after=after, limit=SHOWN)
    return page(
        "requests/list.html",
        status=UNPROCESSABLE if harvest or shown["errors"] else 200,
        requests=found.data,
        has_more=found.has_more,
        summary=queries.summarize(**asked, wanted=wanted),
        values=values,
        chosen=request_filter.chosen(values),
        query=lambda **changes: request_filter.query(values, **changes),
        choices=request_filter.CHOICES,
        folded=set(request_filter.chosen(values)) <= set(request_filter.FIRST),
        keys=[("", "Any"), *((key.id, key.name) for key in _keys(services, owner))],
        answered_by=answered_by,
        days=services.settings.request_log_days,
        keeps=services.settings.request_log,
        masks=services.settings.request_log_masks,
        harvest=harvest or {"name": ""} | no_problems(),
        **shown,
    )


def _keys(services: Services, owner: str) -> list[Any]:
    return keys.list_keys(database=services.database, owner=owner, limit=MAX_LIMIT).data


def _show(
    services: Services,
    owner: str,
    request_id: str,
    said: dict[str, str] | None = None,
    error: GenPlatError | ValidationError | None = None,
) -> Response:
    row = queries.get_request(database=services.database, owner=owner, request_id=request_id)
    names = {key.id: key.name for key in _keys(services, owner)}
    shown = problems(error, SAID[1:]) if error else no_problems()
    return page(
        "requests/show.html",
        status=UNPROCESSABLE if error else 200,
        request=row,
        story=story(row),
        answered_by=answered_by(row),
        key=names.get(row.key_id, row.key_id) if row.key_id else None,
        parameters=[
            *((name, json.dumps(value)) for name, value in row.parameters.items()),
            *(("Tag", tag) for tag in row.tags),
        ],
        values=_stored(row) | (said or {}),
        **shown,
    )


def _stored(row: LoggedRequest) -> dict[str, str]:
    """What was said of an answer so far, as the form shows it."""
    return {
        "rating": {1: "up", -1: "down"}.get(row.feedback or 0, ""),
        "comment": row.feedback_comment or "",
        "correction": row.correction or "",
    }
