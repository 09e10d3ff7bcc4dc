"""Who may come in, and what was answered to whom."""

from datetime import datetime
from typing import Any

from sqlmodel import Field, SQLModel

from gateway.tables.columns import (
    UtcDateTime,
    json_column,
    maybe_json_column,
    maybe_time_column,
    new_id,
    time_column,
)


class ApiKey(SQLModel, table=True):
    """An API key: only its sha256 is stored; ``hint`` is its first characters, for people.
    ``scopes``: what it may do (`gateway.scopes`)."""

    __tablename__ = "api_keys"

    id: str = Field(default_factory=lambda: new_id("key"), primary_key=True)
    owner: str = Field(index=True)
    name: str
    hint: str
    sha256: str = Field(unique=True)
    scopes: list[str] = json_column(lambda: ["admin"])
    expires_at: datetime | None = maybe_time_column()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    created_at: datetime = time_column()
    last_used_at: datetime | None = maybe_time_column()
    revoked_at: datetime | None = maybe_time_column()


class LoginSession(SQLModel, table=True):
    """A browser's session: sha256 of the cookie. It ends with the key that opened it."""

    __tablename__ = "login_sessions"

    sha256: str = Field(primary_key=True)
    owner: str
    key_id: str | None = Field(default=None, index=True)
    created_at: datetime = time_column()
    expires_at: datetime = Field(sa_type=UtcDateTime)


class IdempotentRequest(SQLModel, table=True):
    """The first answer to an Idempotency-Key; ``status`` None while it is being made, by the
    request that holds the ``claim``."""

    __tablename__ = "idempotent_requests"

    owner: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    request_sha256: str
    claim: str | None = None
    status: int | None = None
    body: dict[str, Any] | None = maybe_json_column()
    created_at: datetime = time_column(index=True)
