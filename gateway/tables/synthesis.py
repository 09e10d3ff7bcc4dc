"""Syntheses: what is asked for, what was answered, and the rows that came of it."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field, SQLModel

from gateway.tables.columns import (
    json_column,
    maybe_json_column,
    maybe_time_column,
    new_id,
    time_column,
)


class Synthesis(SQLModel, table=True):
    """Rows that a model writes after the example of others. The gateway that works on it is its
    ``holder`` until ``held_until``; ``lost`` counts those that were not heard of any more."""

    __tablename__ = "syntheses"
    __table_args__ = (
        CheckConstraint(
            "status IN ('queued','running','reviewing','succeeded','failed','cancelled')",
            name="synthesis_status",
        ),
        Index("ix_syntheses_status_created", "status", "created_at"),
    )

    id: str = Field(default_factory=lambda: new_id("syn"), primary_key=True)
    owner: str = Field(index=True)
    name: str
    spec: dict[str, Any] = json_column(dict)
    # What the rows go to, and the failures that they are aimed at: {label, examples}.
    dataset_id: str | None = Field(default=None, index=True)
    evaluation_id: str | None = Field(default=None, index=True)
    aims: list[dict[str, Any]] = json_column(list)
    warnings: list[str] = json_column(list)
    status: str = "queued"
    kept: int = 0
    dropped: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error_code: str | None = None
    error_message: str | None = None
    # The dataset that was made of it.
    result_id: str | None = None
    holder: str | None = None
    held_until: datetime | None = maybe_time_column()
    lost: int = 0
    created_at: datetime = time_column(index=True)
    started_at: datetime | None = maybe_time_column()
    finished_at: datetime | None = maybe_time_column()


class SynthesisAnswer(SQLModel, table=True):
    """What a request came to, by its number."""

    __tablename__ = "synthesis_answers"

    synthesis_id: str = Field(foreign_key="syntheses.id", ondelete="CASCADE", primary_key=True)
    request: int = Field(primary_key=True)
    text: str = ""
    cut_off: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None


class SynthesisRow(SQLModel, table=True):
    """A generated row. ``reason``, ``said`` and ``matched`` tell why one was dropped; ``original``
    is what an edited one was."""

    __tablename__ = "synthesis_rows"
    __table_args__ = (
        CheckConstraint(
            "status IN ('dropped','pending','accepted','edited','rejected')",
            name="synthesis_row_status",
        ),
    )

    synthesis_id: str = Field(foreign_key="syntheses.id", ondelete="CASCADE", primary_key=True)
    number: int = Field(primary_key=True)
    request: int
    status: str = "pending"
    prompt: str
    completion: str
    original: dict[str, Any] | None = maybe_json_column()
    aim: str = ""
    axis: str = ""
    reason: str | None = None
    said: str | None = None
    matched: dict[str, Any] | None = maybe_json_column()
    score: float | None = None
    judged: str = ""
    rendered: bool | None = None
    reviewed_at: datetime | None = maybe_time_column()
