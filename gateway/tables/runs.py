"""Runs and what their workers report; what was last seen of stream and queue."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index
from sqlmodel import Field, SQLModel

from gateway.tables.columns import (
    UtcDateTime,
    json_column,
    maybe_json_column,
    maybe_time_column,
    new_id,
    time_column,
)


class Run(SQLModel, table=True):
    """One fine-tuning. The columns from ``status`` to ``manifest_sha256`` are its RunState."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(
            "status IN ('validating_files','queued','running','paused','succeeded','failed',"
            "'cancelled')",
            name="run_status",
        ),
        Index("ix_runs_status_created", "status", "created_at"),
    )

    id: str = Field(default_factory=lambda: new_id("run"), primary_key=True)
    owner: str = Field(index=True)
    spec: dict[str, Any] = json_column(dict)
    base_model: str
    dataset_id: str = Field(foreign_key="datasets.id")
    created_at: datetime = time_column(index=True)
    queued_at: datetime | None = maybe_time_column()
    cancel_requested_at: datetime | None = maybe_time_column()
    pause_requested_at: datetime | None = maybe_time_column()
    stop_requested_at: datetime | None = maybe_time_column()
    # Place in the fair order of all owners' runs; smaller comes first.
    queue_rank: int = Field(default=0, sa_type=BigInteger)
    # OpenAI's `metadata` and `integrations`, kept for the client that sent them.
    openai: dict[str, Any] | None = maybe_json_column()
    # What its maker's request is called in the logs.
    request_id: str | None = None
    fine_tuned_model: str | None = Field(default=None, unique=True)

    status: str = "queued"
    attempt: int = 1
    last_seq: int = 0
    failures: int = 0
    preemptions: int = 0
    phase: str | None = None
    device: str | None = None
    step: int = 0
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    eval_loss: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    memory_bytes: int | None = Field(default=None, sa_type=BigInteger)
    best_step: int | None = None
    stopped: str | None = None
    hyperparameters: dict[str, Any] | None = maybe_json_column()
    train_examples: int | None = None
    validation_examples: int | None = None
    trained_tokens: int | None = Field(default=None, sa_type=BigInteger)
    train_seconds: float | None = None
    started_at: datetime | None = maybe_time_column()
    finished_at: datetime | None = maybe_time_column()
    error_code: str | None = None
    error_message: str | None = None
    manifest_sha256: str | None = None
    # When it last went on after a pause.
    resumed_at: datetime | None = maybe_time_column()


class RunEventRow(SQLModel, table=True):
    """A run's event as it came; heartbeats are not kept."""

    __tablename__ = "run_events"

    run_id: str = Field(foreign_key="runs.id", ondelete="CASCADE", primary_key=True)
    attempt: int = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    stream_id: str = Field(index=True)
    type: str
    time: datetime = Field(sa_type=UtcDateTime)
    payload: dict[str, Any] = json_column(dict)


class MetricRow(SQLModel, table=True):
    """One optimizer step of a run; a resumed attempt writes over the steps it repeats."""

    __tablename__ = "metrics"

    run_id: str = Field(foreign_key="runs.id", ondelete="CASCADE", primary_key=True)
    step: int = Field(primary_key=True)
    epoch: float
    loss: float | None = None
    eval_loss: float | None = None
    mean_token_accuracy: float | None = None
    eval_mean_token_accuracy: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens_per_second: float | None = None
    memory_bytes: int | None = Field(default=None, sa_type=BigInteger)


class CheckpointRow(SQLModel, table=True):
    """A checkpoint of a run with what was measured there; ``removed_at`` once newer ones took its
    place on disk."""

    __tablename__ = "checkpoints"

    run_id: str = Field(foreign_key="runs.id", ondelete="CASCADE", primary_key=True)
    step: int = Field(primary_key=True)
    loss: float | None = None
    eval_loss: float | None = None
    mean_token_accuracy: float | None = None
    eval_mean_token_accuracy: float | None = None
    best: bool = False
    created_at: datetime = time_column()
    removed_at: datetime | None = maybe_time_column()


class StreamPosition(SQLModel, table=True):
    """How far a reader has come in the event stream, kept in the transaction of what it wrote."""

    __tablename__ = "stream_positions"

    reader: str = Field(primary_key=True)
    stream_id: str


class QueueSight(SQLModel, table=True):
    """What was last seen of the queue: whether Redis answers, and how many workers take runs."""

    __tablename__ = "queue_sights"

    queue: str = Field(primary_key=True)
    reachable: bool
    workers: int
    changed_at: datetime = time_column()
