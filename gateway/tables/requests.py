"""What was asked of models and what came of it."""

from datetime import datetime
from typing import Any

from sqlmodel import Field, SQLModel

from gateway.tables.columns import (
    json_column,
    maybe_json_column,
    maybe_time_column,
    new_id,
    time_column,
)


class LoggedRequest(SQLModel, table=True):
    """One request to a model. ``drawn``: the label of the target that a route's weights chose,
    also where another one stepped in (``served_by``). ``unit``: what the draw was keyed by."""

    __tablename__ = "request_log"

    id: str = Field(default_factory=lambda: new_id("req"), primary_key=True)
    owner: str = Field(index=True)
    key_id: str | None = None
    created_at: datetime = time_column(index=True)
    kind: str = "chat"
    model: str
    route: str | None = Field(default=None, index=True)
    drawn: str | None = None
    served_by: str | None = None
    continued_by: str | None = None
    fallbacks: int = 0
    fallback_reason: str | None = None
    status: int = 200
    error_code: str | None = None
    stream: bool = False
    client: str | None = None
    messages: list[dict[str, Any]] | None = maybe_json_column()
    reply: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    seconds: float = 0.0
    first_token_seconds: float | None = None
    rendered: bool | None = None
    feedback: int | None = None
    feedback_comment: str | None = None
    feedback_at: datetime | None = maybe_time_column()
    tags: list[str] = json_column(list)
    shadow_of: str | None = Field(default=None, index=True)
    unit: str | None = None
