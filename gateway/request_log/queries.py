"""Looking requests up: by what they were, by what was said, and how many there are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, String, case, cast, func, or_
from sqlalchemy import select as plain_select
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from gateway.database import Database
from gateway.moments import Moment
from gateway.paging import DEFAULT_LIMIT, Page, paginate
from gateway.request_log.entries import Kind
from gateway.tables import LoggedRequest
from shared.errors import NotFound

# Of so many of the newest the times are looked at.
TIMED = 10_000
MOST_NAMES = 20
HTTP_ERRORS = 400


class RequestFilter(BaseModel):
    """Which requests. What is left out, or empty, is no condition. Requests of shadow traffic only
    where they are asked for."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, max_length=500, description="As it was asked for.")
    route: str | None = Field(None, max_length=100)
    served_by: str | None = Field(
        None, max_length=200, description="upstream/NAME or a deployment."
    )
    key_id: str | None = Field(None, max_length=100)
    kind: Kind | None = None
    outcome: Literal["ok", "failed"] | None = None
    fallback: bool | None = Field(None, description="Whether somebody else had to step in.")
    feedback: Literal["up", "down", "any", "none"] | None = None
    tag: str | None = Field(None, max_length=200, description="Of metadata: name:value.")
    since: Moment | None = None
    until: Moment | None = None
    q: str | None = Field(None, max_length=200, description="Words of the prompt or the reply.")
    shadow: bool = False


def conditions(owner: str, wanted: RequestFilter) -> list[ColumnElement[bool]]:
    row = LoggedRequest
    found: list[ColumnElement[bool]] = [col(row.owner) == owner]
    found.append(col(row.shadow_of).is_not(None) if wanted.shadow else col(row.shadow_of).is_(None))
    for name in ("model", "route", "served_by", "key_id", "kind"):
        if value := getattr(wanted, name):
            found.append(getattr(row, name) == value)
    if wanted.outcome is not None:
        failed = col(row.status) >= HTTP_ERRORS
        found.append(failed if wanted.outcome == "failed" else ~failed)
    if wanted.fallback is not None:
        stepped_in = or_(col(row.fallbacks) > 0, col(row.continued_by).is_not(None))
        found.append(stepped_in if wanted.fallback else ~stepped_in)
    if wanted.feedback is not None:
        found.append(_rated(wanted.feedback))
    if wanted.since is not None:
        found.append(col(row.created_at) >= wanted.since)
    if wanted.until is not None:
        found.append(col(row.created_at) < wanted.until)
    if wanted.q:
        found.append(_says(col(row.prompt), wanted.q) | _says(col(row.reply), wanted.q))
    if wanted.tag:
        found.append(_tagged(wanted.tag))
    return found


def _rated(feedback: str) -> ColumnElement[bool]:
    rating = col(LoggedRequest.feedback)
    match feedback:
        case "up":
            return rating == 1
        case "down":
            return rating == -1
        case "any":
            return rating.is_not(None)
        case _:
            return rating.is_(None)


def _says(column: Any, words: str) -> ColumnElement[bool]:
    found: ColumnElement[bool] = column.icontains(words, autoescape=True)
    return found


def _tagged(tag: str) -> ColumnElement[bool]:
    # Both databases keep JSON as text that Python wrote; a tag stands there in quotes.
    written = cast(col(LoggedRequest.tags), String)
    found: ColumnElement[bool] = written.contains(json.dumps(tag), autoescape=True)
    return found


def matching(owner: str, wanted: RequestFilter) -> SelectOfScalar[LoggedRequest]:
    return select(LoggedRequest).where(*conditions(owner, wanted))


def list_requests(
    *,
    database: Database,
    owner: str,
    wanted: RequestFilter,
    after: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[LoggedRequest]:
    """The newest first."""
    with database.read() as session:
        return paginate(
            session=session,
            query=matching(owner, wanted),
            table=LoggedRequest,
            key=LoggedRequest.id,
            after=after,
            limit=limit,
        )


def find_request(session: Session, *, owner: str, request_id: str) -> LoggedRequest:
    """By the log's id or by the answer's own (``chatcmpl-…``)."""
    row = session.get(LoggedRequest, request_id)
    if row is None:
        query = select(LoggedRequest).where(
            LoggedRequest.owner == owner, LoggedRequest.completion_id == request_id
        )
        row = session.exec(query.order_by(col(LoggedRequest.created_at).desc())).first()
    if row is None or row.owner != owner:
        raise NotFound(
            f"There is no request {request_id[:80]!r} in the log. (What is older than "
            "GENPLAT_REQUEST_LOG_DAYS is forgotten.)",
            param="request_id",
        )
    return row


def get_request(*, database: Database, owner: str, request_id: str) -> LoggedRequest:
    with database.read() as session:
        return find_request(session, owner=owner, request_id=request_id)


@dataclass(frozen=True)
class Seconds:
    """Of the newest requests that were answered."""

    p50: float | None
    p95: float | None


@dataclass(frozen=True)
class Summary:
    """Counts over all requests that a filter lets through; ``by``: the most frequent names."""

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
    seconds: Seconds
    by: dict[str, list[tuple[str, int]]]


def summarize(*, database: Database, owner: str, wanted: RequestFilter) -> Summary:
    where, row = conditions(owner, wanted), LoggedRequest

    def many(condition: Any) -> Any:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    totals = {
        "count": func.count(),
        "failed": many(col(row.status) >= HTTP_ERRORS),
        "fallbacks": many(col(row.fallbacks) > 0),
        "continued": many(col(row.continued_by).is_not(None)),
        "thumbs_up": many(col(row.feedback) == 1),
        "thumbs_down": many(col(row.feedback) == -1),
        "prompt_tokens": func.coalesce(func.sum(row.prompt_tokens), 0),
        "completion_tokens": func.coalesce(func.sum(row.completion_tokens), 0),
        "first": func.min(row.created_at),
        "last": func.max(row.created_at),
    }
    with database.read() as session:
        found = session.execute(_selected(list(totals.values()), where)).one()
        times = session.exec(
            select(row.seconds)
            .where(*where, col(row.status) < HTTP_ERRORS)
            .order_by(col(row.created_at).desc())
            .limit(TIMED)
        ).all()
        by = {
            name: _names(session, getattr(row, name), where)
            for name in ("model", "route", "served_by", "status")
        }
    facts: dict[str, Any] = dict(zip(totals, found, strict=True))
    facts |= {"seconds": _quantiles(times), "by": by}
    return Summary(**facts)


def _selected(columns: Sequence[Any], where: Sequence[ColumnElement[bool]]) -> Any:
    return plain_select(*columns).select_from(LoggedRequest).where(*where)


def _names(
    session: Session, column: Any, where: Sequence[ColumnElement[bool]]
) -> list[tuple[str, int]]:
    query = _selected((column, func.count()), (*where, column.is_not(None)))
    query = query.group_by(column).order_by(func.count().desc(), column).limit(MOST_NAMES)
    return [(str(name), count) for name, count in session.execute(query).all()]


def _quantiles(times: Sequence[float]) -> Seconds:
    if not times:
        return Seconds(None, None)
    ordered = sorted(times)
    last = len(ordered) - 1
    return Seconds(ordered[round(last * 0.5)], ordered[round(last * 0.95)])
