"""Datasets, and the base models that users added."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from gateway.tables.columns import (
    json_column,
    maybe_json_column,
    maybe_time_column,
    new_id,
    time_column,
)


class Dataset(SQLModel, table=True):
    """An immutable version of uploaded data."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("owner", "name", "version"),)

    id: str = Field(default_factory=lambda: new_id("ds"), primary_key=True)
    owner: str = Field(index=True)
    name: str
    description: str = ""
    version: int = 1
    filename: str
    file_type: str = Field(description="csv, jsonl, json or parquet")
    format: str = Field(description="text/target, prompt/completion, messages, alpaca, …")
    rows: int
    bytes: int = Field(sa_type=BigInteger)
    sha256: str
    records_sha256: str
    columns: list[str] = json_column(list)
    warnings: list[str] = json_column(list)
    # Rows that were left out on request, as places in the file: the first of them, and how many.
    skipped_rows: int = 0
    problems: list[dict[str, Any]] = json_column(list)
    # Which column is what, and where an import came from: {repo, config, split, revision}.
    mapping: dict[str, Any] | None = maybe_json_column()
    imported_from: dict[str, Any] | None = maybe_json_column()
    # Of what it was made: {parents, synthesis_id, generator, counts, …}.
    derived_from: dict[str, Any] | None = maybe_json_column()
    created_at: datetime = time_column(index=True)
    # The row outlives its files: finished runs refer to it, and its version is not given again.
    deleted_at: datetime | None = maybe_time_column()


class PlacedDataset(SQLModel, table=True):
    """A dataset whose folder is being put in its place, until its row is there."""

    __tablename__ = "placed_datasets"

    dataset_id: str = Field(primary_key=True)
    created_at: datetime = time_column(index=True)


class LibraryModel(SQLModel, table=True):
    """A base model that a user added, and where the preparation of any base model stands."""

    __tablename__ = "library_models"

    id: str = Field(primary_key=True)
    owner: str
    entry: dict[str, Any] | None = maybe_json_column()
    preparing_job: str | None = None
    preparing_since: datetime | None = maybe_time_column()
    error: str | None = None
    created_at: datetime = time_column()
