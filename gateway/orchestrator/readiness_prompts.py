"""The real prompts that a fallback is measured with: those of the last day, asked anew."""

import random
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from sqlmodel import Session, col, select

from gateway.completion_requests import Request
from gateway.database import Database
from gateway.tables import LoggedRequest, ReadinessReport, now
from shared.chat import ChatRequest, CompletionRequest

DAY = timedelta(days=1)
MOST_READ = 2000
READ_AT_ONCE = 50


def are_there_prompts(session: Session, route: str, fallback: str) -> bool:
    return session.exec(_prompts_of(route, fallback).limit(1)).first() is not None


def _prompts_of(name: str, fallback: str) -> Any:
    """Requests of the last day that were answered as they should, with their texts, and by others
    than the fallback: beside its own answers it would look better than it is."""
    return select(LoggedRequest).where(
        LoggedRequest.route == name,
        LoggedRequest.created_at > now() - DAY,
        LoggedRequest.status == 200,
        LoggedRequest.fallbacks == 0,
        LoggedRequest.served_by != fallback,
        col(LoggedRequest.continued_by).is_(None),
        col(LoggedRequest.shadow_of).is_(None),
        col(LoggedRequest.reply).is_not(None),
    )


def read_prompts(database: Database, report: ReadinessReport, count: int) -> list[LoggedRequest]:
    """A sample without repetitions; the same for the same report. (A few at a time: texts may be
    long.)"""
    of_day = _prompts_of(report.route, report.fallback).where(LoggedRequest.owner == report.owner)
    newest = of_day.order_by(col(LoggedRequest.created_at).desc()).limit(MOST_READ)
    chosen: dict[str, LoggedRequest] = {}
    with database.read() as session:
        ids = list(session.execute(newest.with_only_columns(col(LoggedRequest.id))).scalars())
        random.Random(report.id).shuffle(ids)  # noqa: S311 - a sample, no secret
        for first in range(0, len(ids), READ_AT_ONCE):
            some = ids[first : first + READ_AT_ONCE]
            found = session.exec(of_day.where(col(LoggedRequest.id).in_(some))).all()
            for row in sorted(found, key=lambda row: some.index(row.id)):
                if row.messages and len(chosen) < count:
                    chosen.setdefault(repr(row.messages), row)
            if len(chosen) == count:
                break
    return list(chosen.values())


def as_request(row: LoggedRequest) -> Request | None:
    """A logged prompt as a request; None where it is none any more. It may write about twice what
    the reader got."""
    limit = min(4096, 2 * (row.completion_tokens or 256) + 64)
    body: dict[str, Any] = {"model": row.model, "max_tokens": limit, "temperature": 0}
    messages = row.messages or []
    try:
        if row.kind == "completion":
            return CompletionRequest.model_validate(body | {"prompt": messages[0]["content"]})
        if row.kind == "diagram":
            body["diagram"] = {}
        return ChatRequest.model_validate(body | {"messages": messages})
    except (ValidationError, LookupError, TypeError):
        return None
