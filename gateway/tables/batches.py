"""Batches of requests, the answers that they have so far, and the files around them."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, Text
from sqlmodel import Field, SQLModel

from gateway.tables.columns import (
    UtcDateTime,
    maybe_json_column,
    maybe_time_column,
    new_id,
    time_column,
)


class BatchFile(SQLModel, table=True):
    """A file of OpenAI's that is no dataset: a batch's requests or answers. ``purpose`` is empty
    until its bytes are in the storage; what has expired is removed."""

    __tablename__ = "batch_files"

    id: str = Field(default_factory=lambda: new_id("bf"), primary_key=True)
    owner: str = Field(index=True)
    purpose: str = ""
    filename: str
    bytes: int = Field(default=0, sa_type=BigInteger)
    sha256: str = ""
    created_at: datetime = time_column(index=True)
    expires_at: datetime | None = maybe_time_column()


class Batch(SQLModel, table=True):
    """OpenAI's batch. ``labels`` are its metadata. Who works on it holds a lease: writes by
    anybody else are refused."""

    __tablename__ = "batches"
    __table_args__ = (Index("ix_batches_status_created", "status", "created_at"),)

    id: str = Field(default_factory=lambda: new_id("batch"), primary_key=True)
    owner: str = Field(index=True)
    endpoint: str
    input_file_id: str
    completion_window: str = "24h"
    labels: dict[str, str] | None = maybe_json_column()
    output_seconds: int | None = Field(default=None, description="Life of the output files.")
    status: str = "validating"
    model: str | None = None
    errors: list[dict[str, Any]] | None = maybe_json_column()
    total: int = 0
    completed: int = 0
    failed: int = 0
    input_tokens: int = Field(default=0, sa_type=BigInteger)
    output_tokens: int = Field(default=0, sa_type=BigInteger)
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: datetime = time_column(index=True)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    in_progress_at: datetime | None = maybe_time_column()
    finalizing_at: datetime | None = maybe_time_column()
    completed_at: datetime | None = maybe_time_column()
    failed_at: datetime | None = maybe_time_column()
    expired_at: datetime | None = maybe_time_column()
    cancelling_at: datetime | None = maybe_time_column()
    cancelled_at: datetime | None = maybe_time_column()
    key_id: str | None = Field(default=None, description="Whose limits hold for its requests.")
    lease_holder: str | None = None
    lease_until: datetime | None = maybe_time_column()


class BatchAnswer(SQLModel, table=True):
    """What one line of a batch was answered, as a line of an output file; gone when those are
    written."""

    __tablename__ = "batch_answers"

    batch_id: str = Field(foreign_key="batches.id", ondelete="CASCADE", primary_key=True)
    line: int = Field(primary_key=True)
    failed: bool
    content: str = Field(sa_type=Text)
