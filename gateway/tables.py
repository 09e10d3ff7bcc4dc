"""The tables. Every object has an owner; every time is UTC; ids are opaque and made here."""

import secrets
import string
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlmodel import Field, SQLModel

_ALPHABET = string.ascii_lowercase + string.digits


def new_id(prefix: str) -> str:
    """An opaque id such as ``run_k3v9…``: 24 characters, 124 bits."""
    return f"{prefix}_{''.join(secrets.choice(_ALPHABET) for _ in range(24))}"


def now() -> datetime:
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A time zone aware column on both databases: SQLite forgets the zone, this puts it back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _time(*, index: bool = False) -> Any:
    return Field(default_factory=now, sa_type=UtcDateTime, index=index)


def _maybe_time() -> Any:
    return Field(default=None, sa_type=UtcDateTime)


def _json(default: Any) -> Any:
    return Field(default_factory=default, sa_type=JSON)


class ApiKey(SQLModel, table=True):
    """An API key: only its sha256 is stored; ``hint`` is its first characters, for people."""

    __tablename__ = "api_keys"

    id: str = Field(default_factory=lambda: new_id("key"), primary_key=True)
    owner: str = Field(index=True)
    name: str
    hint: str
    sha256: str = Field(unique=True)
    created_at: datetime = _time()
    last_used_at: datetime | None = _maybe_time()
    revoked_at: datetime | None = _maybe_time()


class LoginSession(SQLModel, table=True):
    """A browser's session: sha256 of the cookie. It ends with the key that opened it."""

    __tablename__ = "login_sessions"

    sha256: str = Field(primary_key=True)
    owner: str
    key_id: str | None = Field(default=None, index=True)
    created_at: datetime = _time()
    expires_at: datetime = Field(sa_type=UtcDateTime)


class IdempotentRequest(SQLModel, table=True):
    """The first answer to an Idempotency-Key; ``status`` None while it is being made, by the
    request that holds the ``claim``."""

    __tablename__ = "idempotent_requests"

    owner: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    request_sha256: str
    claim: str | None = None
    status: int | None = None
    body: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON, nullable=True))
    created_at: datetime = _time(index=True)


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
    columns: list[str] = _json(list)
    warnings: list[str] = _json(list)
    # Rows that were left out on request, as places in the file: the first of them, and how many.
    skipped_rows: int = 0
    problems: list[dict[str, Any]] = _json(list)
    # Which column is what, and where an import came from: {repo, config, split, revision}.
    mapping: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON, nullable=True))
    imported_from: dict[str, Any] | None = Field(
        default=None, sa_column=Column(JSON, nullable=True)
    )
    created_at: datetime = _time(index=True)
    # The row outlives its files: finished runs refer to it, and its version is not given again.
    deleted_at: datetime | None = _maybe_time()


class LibraryModel(SQLModel, table=True):
    """A base model that a user added, and where the preparation of any base model stands."""

    __tablename__ = "library_models"

    id: str = Field(primary_key=True)
    owner: str
    entry: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON, nullable=True))
    preparing_job: str | None = None
    preparing_since: datetime | None = _maybe_time()
    error: str | None = None
    created_at: datetime = _time()


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
    spec: dict[str, Any] = _json(dict)
    base_model: str
    dataset_id: str = Field(foreign_key="datasets.id")
    created_at: datetime = _time(index=True)
    queued_at: datetime | None = _maybe_time()
    cancel_requested_at: datetime | None = _maybe_time()
    pause_requested_at: datetime | None = _maybe_time()
    stop_requested_at: datetime | None = _maybe_time()
    # Place in the fair order of all owners' runs; smaller comes first.
    queue_rank: int = Field(default=0, sa_type=BigInteger)
    # OpenAI's `metadata` and `integrations`, kept for the client that sent them.
    openai: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON, nullable=True))
    fine_tuned_model: str | None = Field(default=None, unique=True)

    status: str = "queued"
    attempt: int = 1
    last_seq: int = 0
    failures: int = 0
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
    hyperparameters: dict[str, Any] | None = Field(
        default=None, sa_column=Column(JSON, nullable=True)
    )
    train_examples: int | None = None
    validation_examples: int | None = None
    trained_tokens: int | None = Field(default=None, sa_type=BigInteger)
    train_seconds: float | None = None
    started_at: datetime | None = _maybe_time()
    finished_at: datetime | None = _maybe_time()
    error_code: str | None = None
    error_message: str | None = None
    manifest_sha256: str | None = None
    # When it last went on after a pause.
    resumed_at: datetime | None = _maybe_time()


class RunEventRow(SQLModel, table=True):
    """A run's event as it came; heartbeats are not kept."""

    __tablename__ = "run_events"

    run_id: str = Field(foreign_key="runs.id", ondelete="CASCADE", primary_key=True)
    attempt: int = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    stream_id: str = Field(index=True)
    type: str
    time: datetime = Field(sa_type=UtcDateTime)
    payload: dict[str, Any] = _json(dict)


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
    created_at: datetime = _time()
    removed_at: datetime | None = _maybe_time()


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
    changed_at: datetime = _time()


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
    created_at: datetime = _time()


class Route(SQLModel, table=True):
    """A public model name: weighted targets and ordered fallbacks over deployments."""

    __tablename__ = "routes"

    name: str = Field(primary_key=True)
    owner: str = Field(index=True)
    targets: list[dict[str, Any]] = _json(list)
    fallbacks: list[dict[str, Any]] = _json(list)
    created_at: datetime = _time()
    updated_at: datetime = _time()


class Diagram(SQLModel, table=True):
    """A diagram that was asked for; its files lie in the storage where it rendered."""

    __tablename__ = "diagrams"

    id: str = Field(default_factory=lambda: new_id("dg"), primary_key=True)
    owner: str = Field(index=True)
    model: str | None = None
    source: str
    rendered: bool
    attempts: int
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON, nullable=True))
    created_at: datetime = _time()
