"""Evaluations: what is asked, of whom, what was answered, and what it came to."""

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


class Evaluation(SQLModel, table=True):
    """Candidates answer examples, and metrics tell how well. The gateway that works on it is its
    ``holder`` until ``held_until``; ``lost`` counts those that were not heard of any more."""

    __tablename__ = "evaluations"
    __table_args__ = (
        CheckConstraint(
            "status IN ('queued','running','succeeded','failed','cancelled')",
            name="evaluation_status",
        ),
        Index("ix_evaluations_status_created", "status", "created_at"),
    )

    id: str = Field(default_factory=lambda: new_id("ev"), primary_key=True)
    owner: str = Field(index=True)
    name: str = ""
    spec: dict[str, Any] = json_column(dict)
    dataset_id: str = Field(foreign_key="datasets.id", index=True)
    task: str
    metrics: list[str] = json_column(list)
    # As they were resolved: {name, model, kind, run_id}.
    candidates: list[dict[str, Any]] = json_column(list)
    warnings: list[str] = json_column(list)
    examples: int
    total: int
    done: int = 0
    status: str = "queued"
    phase: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    results: dict[str, Any] | None = maybe_json_column()
    holder: str | None = None
    held_until: datetime | None = maybe_time_column()
    lost: int = 0
    created_at: datetime = time_column(index=True)
    started_at: datetime | None = maybe_time_column()
    finished_at: datetime | None = maybe_time_column()


class EvaluationExample(SQLModel, table=True):
    """What is asked, with all its references; ``row`` is its first row's place in the dataset."""

    __tablename__ = "evaluation_examples"

    evaluation_id: str = Field(foreign_key="evaluations.id", ondelete="CASCADE", primary_key=True)
    place: int = Field(primary_key=True)
    row: int
    messages: list[dict[str, Any]] = json_column(list)
    targets: list[str] = json_column(list)
    tag: str | None = None


class EvaluationAnswer(SQLModel, table=True):
    """What a candidate answered. ``error``: why it did not; ``refused``: it never will, and counts
    as an empty answer. ``scores`` by metric; ``verdicts`` of the judge."""

    __tablename__ = "evaluation_answers"

    evaluation_id: str = Field(foreign_key="evaluations.id", ondelete="CASCADE", primary_key=True)
    candidate: int = Field(primary_key=True)
    place: int = Field(primary_key=True)
    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    served_by: str = ""
    error: str | None = None
    refused: bool = False
    rendered: bool | None = None
    log_likelihood: float | None = None
    likelihood_tokens: int | None = None
    verdicts: dict[str, Any] | None = maybe_json_column()
    scores: dict[str, float] | None = maybe_json_column()
    created_at: datetime = time_column()
