"""One page of a list; knows neither what is listed nor how it is shown."""

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import ColumnElement, or_
from sqlmodel import Session
from sqlmodel.sql.expression import SelectOfScalar

from shared.errors import InvalidRequest

T = TypeVar("T")
MAX_LIMIT = 100
DEFAULT_LIMIT = 20


@dataclass(frozen=True)
class Page(Generic[T]):
    """``data`` is newest first; ``has_more`` says that older ones follow."""

    data: list[T]
    has_more: bool


class _Listed(Protocol):
    """A table that is listed: by creation time, ties broken by its id."""

    created_at: Any


def paginate(
    *,
    session: Session,
    query: SelectOfScalar[T],
    table: type[_Listed],
    key: Any,
    after: str | None,
    limit: int,
) -> Page[T]:
    """The page of ``query`` that follows the row whose ``key`` is ``after``."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit must lie between 1 and {MAX_LIMIT}.", param="limit")
    if after is not None:
        cursor = session.exec(query.where(key == after)).first()
        if cursor is None:
            raise InvalidRequest(
                f"after names nothing in this list: {after[:80]!r}. Leave it out to start anew.",
                param="after",
            )
        query = query.where(_older(table, key, cursor, after))
    rows = session.exec(query.order_by(table.created_at.desc(), key.desc()).limit(limit + 1)).all()
    return Page(data=list(rows[:limit]), has_more=len(rows) > limit)


def _older(table: type[_Listed], key: Any, cursor: Any, after: str) -> ColumnElement[bool]:
    time = cursor.created_at
    return or_(table.created_at < time, (table.created_at == time) & (key < after))
