"""What is served: deployments, routes, diagrams."""

from datetime import datetime
from typing import Any

from sqlmodel import Field, SQLModel

from gateway.tables.columns import json_column, maybe_json_column, new_id, time_column


class Deployment(SQLModel, table=True):
    """A model served under a name. This row is what should be; the inference service is what is."""

    __tablename__ = "deployments"

    name: str = Field(primary_key=True)
    owner: str = Field(index=True)
    model: str = Field(description="As the user named it: a run id or a library id.")
    base_model: str
    run_id: str | None = Field(default=None, foreign_key="runs.id")
    checkpoint: int | None = None
    precision: str = "auto"
    state: str = "loading"
    error: str | None = None
    # What an evaluation had to show before: {evaluation, rules, sentences}.
    gate: dict[str, Any] | None = maybe_json_column()
    created_at: datetime = time_column()


class Route(SQLModel, table=True):
    """A public model name: weighted targets and ordered fallbacks over deployments and upstreams.
    ``drill``: the fault that is made of its targets' answers, and until when."""

    __tablename__ = "routes"

    name: str = Field(primary_key=True)
    owner: str = Field(index=True)
    targets: list[dict[str, Any]] = json_column(list)
    fallbacks: list[dict[str, Any]] = json_column(list)
    sticky: str | None = None
    drill: dict[str, Any] | None = maybe_json_column()
    created_at: datetime = time_column()
    updated_at: datetime = time_column()


class Diagram(SQLModel, table=True):
    """A diagram that was asked for; its files lie in the storage where it rendered."""

    __tablename__ = "diagrams"

    id: str = Field(default_factory=lambda: new_id("dg"), primary_key=True)
    owner: str = Field(index=True)
    model: str | None = None
    source: str
    rendered: bool
    attempts: int
    error: dict[str, Any] | None = maybe_json_column()
    created_at: datetime = time_column()
