"""Batches of requests, their answers and the files around them."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def _time(name: str, *, nullable: bool = True) -> "sa.Column[datetime]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> "sa.Column[str]":
    return sa.Column(name, sa.String(), nullable=nullable)


def _number(name: str, kind: sa.Integer) -> "sa.Column[int]":
    return sa.Column(name, kind, nullable=False)


def upgrade() -> None:
    op.create_table(
        "batch_files",
        _text("id"),
        _text("owner"),
        _text("purpose"),
        _text("filename"),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        _text("sha256"),
        _time("created_at", nullable=False),
        _time("expires_at"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_batch_files_owner", "batch_files", ["owner"])
    op.create_index("ix_batch_files_created_at", "batch_files", ["created_at"])
    moments = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling")
    op.create_table(
        "batches",
        *(_text(name) for name in ("id", "owner", "endpoint", "input_file_id")),
        _text("completion_window"),
        sa.Column("labels", sa.JSON(), nullable=True),
        sa.Column("output_seconds", sa.Integer(), nullable=True),
        _text("status"),
        _text("model", nullable=True),
        sa.Column("errors", sa.JSON(), nullable=True),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("total", "completed", "failed")
        ),
        *(
            sa.Column(f"{name}_tokens", sa.BigInteger(), nullable=False)
            for name in ("input", "output")
        ),
        _text("output_file_id", nullable=True),
        _text("error_file_id", nullable=True),
        _time("created_at", nullable=False),
        _time("expires_at", nullable=False),
        *(_time(f"{moment}_at") for moment in (*moments, "cancelled")),
        _text("lease_holder", nullable=True),
        _time("lease_until"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_batches_owner", "batches", ["owner"])
    op.create_index("ix_batches_created_at", "batches", ["created_at"])
    op.create_index("ix_batches_status_created", "batches", ["status", "created_at"])
    op.create_table(
        "batch_answers",
        _text("batch_id"),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Boolean(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("batch_id", "line"),
    )
