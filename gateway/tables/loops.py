"""Loops: from new data to a promoted model."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint
from sqlmodel import Field, SQLModel

from gateway.tables.columns import (
    json_column,
    maybe_json_column,
    maybe_time_column,
    new_id,
    time_column,
)


class Loop(SQLModel, table=True):
    """Retrain, evaluate, gate, deploy, promote. ``stage`` is what is being done; what was made of
    it stands in ``run_id``, ``evaluation_id``, ``deployment``, set in the transactions that make
    them."""

    __tablename__ = "loops"
    __table_args__ = (
        CheckConstraint(
            "status IN ('running','succeeded','failed','cancelled')", name="loop_status"
        ),
    )

    id: str = Field(default_factory=lambda: new_id("lp"), primary_key=True)
    owner: str = Field(index=True)
    spec: dict[str, Any] = json_column(dict)
    status: str = Field(default="running", index=True)
    stage: str = "training"
    run_id: str | None = None
    evaluation_id: str | None = None
    deployment: str | None = None
    verdicts: list[dict[str, Any]] | None = maybe_json_column()
    error_code: str | None = None
    error_message: str | None = None
    created_at: datetime = time_column(index=True)
    finished_at: datetime | None = maybe_time_column()
