"""What is tried out on routes: experiments, the migrations that are made of them, readiness."""

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


class Experiment(SQLModel, table=True):
    """Two targets of a route compared on its requests. ``control`` and ``treatment`` are labels;
    ``spec`` is what was asked for; ``before`` the route's places before it began; ``standing`` the
    figures of the last look, ``looks`` those of all, thinned out; ``decisions`` tells what was done
    when and why. ``looked_at`` is the lease of whoever looks, and its fencing token."""

    __tablename__ = "experiments"

    id: str = Field(default_factory=lambda: new_id("exp"), primary_key=True)
    owner: str = Field(index=True)
    route: str = Field(index=True)
    status: str = Field(default="running", index=True)
    control: str
    treatment: str
    spec: dict[str, Any] = json_column(dict)
    before: dict[str, Any] = json_column(dict)
    standing: dict[str, Any] | None = maybe_json_column()
    looks: list[dict[str, Any]] = json_column(list)
    decisions: list[dict[str, Any]] = json_column(list)
    migration_id: str | None = Field(default=None, index=True)
    step: int | None = None
    created_at: datetime = time_column()
    looked_at: datetime | None = maybe_time_column()
    ended_at: datetime | None = maybe_time_column()


class RouteMigration(SQLModel, table=True):
    """A route's walk from one target to another, in steps that are an experiment each. ``step`` is
    the place in ``spec``'s steps where it stands; ``before`` the route's places before it began."""

    __tablename__ = "route_migrations"

    id: str = Field(default_factory=lambda: new_id("mig"), primary_key=True)
    owner: str = Field(index=True)
    route: str = Field(index=True)
    status: str = Field(default="running", index=True)
    step: int = 0
    setbacks: int = 0
    spec: dict[str, Any] = json_column(dict)
    before: dict[str, Any] = json_column(dict)
    decisions: list[dict[str, Any]] = json_column(list)
    created_at: datetime = time_column()
    ended_at: datetime | None = maybe_time_column()


class ReadinessReport(SQLModel, table=True):
    """How good a route's fallback would have been on a day's prompts. ``claimed_at`` is renewed by
    whoever measures; a report without a sign of life for long is measured by another gateway."""

    __tablename__ = "readiness_reports"

    id: str = Field(default_factory=lambda: new_id("rdy"), primary_key=True)
    owner: str = Field(index=True)
    route: str = Field(index=True)
    fallback: str
    status: str = Field(default="queued", index=True)
    score: float | None = None
    figures: dict[str, Any] | None = maybe_json_column()
    error: str | None = None
    claimed_at: datetime | None = maybe_time_column()
    created_at: datetime = time_column(index=True)
    ended_at: datetime | None = maybe_time_column()
