"""What was asked of models, and what came of it."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from gateway.tables.columns import (
    json_column,
    maybe_json_column,
    maybe_time_column,
    new_id,
    time_column,
)


class LoggedRequest(SQLModel, table=True):
    """One request for an answer. Of what was said ``messages``, ``prompt`` (the last turn of a
    user, for looking things up) and ``reply``; none of them where ``withheld`` says why."""

    __tablename__ = "request_log"
    __table_args__ = (Index("ix_request_log_owner_created_at", "owner", "created_at"),)

    id: str = Field(default_factory=lambda: new_id("req"), primary_key=True)
    owner: str
    key_id: str | None = None
    created_at: datetime = time_column(index=True)
    kind: str = Field(default="chat", description="chat, completion, prediction, diagram or batch")
    client: str | None = Field(default=None, description="The address that asked.")
    # What the caller called it, and what the answer is called: both may be looked up.
    request_id: str | None = None
    completion_id: str | None = Field(default=None, index=True)

    model: str = Field(description="As it was asked for.")
    route: str | None = Field(default=None, index=True)
    # The target that the route drew, who answered in the end, and who went on where that broke off.
    drawn: str | None = None
    served_by: str | None = None
    continued_by: str | None = None
    fallbacks: int = 0
    fallback_reason: str | None = None
    unit: str | None = Field(default=None, description="Whose requests are drawn alike, hashed.")
    shadow_of: str | None = Field(default=None, index=True)

    status: int = 200
    error_code: str | None = None
    stream: bool = False
    seconds: float = 0.0
    first_token_seconds: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    rendered: bool | None = Field(default=None, description="Of a diagram.")

    messages: list[dict[str, str]] | None = maybe_json_column()
    prompt: str | None = None
    reply: str | None = None
    withheld: str | None = None
    parameters: dict[str, Any] = json_column(dict)
    tags: list[str] = json_column(list)

    judge_score: float | None = Field(default=None, description="From 0 to 1, by a judge.")
    judged_at: datetime | None = maybe_time_column()

    feedback: int | None = Field(default=None, description="1 or -1.")
    feedback_comment: str | None = None
    correction: str | None = None
    feedback_at: datetime | None = maybe_time_column()
    # Experiments count this one: what is changed later would change what they have seen.
    first_rating: int | None = None
    first_rated_at: datetime | None = maybe_time_column()
