"""What tables are made of: opaque ids, times in UTC, JSON."""

import secrets
import string
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Column, DateTime, TypeDecorator
from sqlalchemy.engine import Dialect
from sqlmodel import Field

_ALPHABET = string.ascii_lowercase + string.digits


def new_id(prefix: str) -> str:
    """An opaque id such as ``run_k3v9…``: 24 characters, 124 bits."""
    return f"{prefix}_{''.join(secrets.choice(_ALPHABET) for _ in range(24))}"


def now() -> datetime:
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A time zone aware column on both databases: SQLite forgets the zone, this puts it back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def time_column(*, index: bool = False) -> Any:
    return Field(default_factory=now, sa_type=UtcDateTime, index=index)


def maybe_time_column() -> Any:
    return Field(default=None, sa_type=UtcDateTime)


def json_column(default: Any) -> Any:
    return Field(default_factory=default, sa_type=JSON)


def maybe_json_column() -> Any:
    return Field(default=None, sa_column=Column(JSON, nullable=True))
