"""Evaluations, their examples and answers; what a deployment had to show before it was made."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("deployments", sa.Column("gate", sa.JSON(), nullable=True))
    _evaluations()
    op.create_table(
        "evaluation_examples",
        _evaluation_id(),
        sa.Column("place", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("targets", sa.JSON(), nullable=False),
        sa.Column("tag", sa.String(), nullable=True),
    )
    op.create_table(
        "evaluation_answers",
        _evaluation_id(),
        sa.Column("candidate", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("place", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("finish_reason", sa.String(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("served_by", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("refused", sa.Boolean(), nullable=False),
        sa.Column("rendered", sa.Boolean(), nullable=True),
        sa.Column("log_likelihood", sa.Float(), nullable=True),
        sa.Column("likelihood_tokens", sa.Integer(), nullable=True),
        sa.Column("verdicts", sa.JSON(), nullable=True),
        sa.Column("scores", sa.JSON(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
    )


def _evaluations() -> None:
    op.create_table(
        "evaluations",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("dataset_id", sa.String(), sa.ForeignKey("datasets.id"), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("candidates", sa.JSON(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.Column("examples", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("phase", sa.String(), nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column("results", sa.JSON(), nullable=True),
        sa.Column("holder", sa.String(), nullable=True),
        sa.Column("held_until", _TIME, nullable=True),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("started_at", _TIME, nullable=True),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.CheckConstraint(
            "status IN ('queued','running','succeeded','failed','cancelled')",
            name="evaluation_status",
        ),
    )
    for column in ("owner", "dataset_id", "created_at"):
        op.create_index(f"ix_evaluations_{column}", "evaluations", [column])
    op.create_index("ix_evaluations_status_created", "evaluations", ["status", "created_at"])


def _evaluation_id() -> "sa.Column[str]":
    return sa.Column(
        "evaluation_id",
        sa.String(),
        sa.ForeignKey("evaluations.id", ondelete="CASCADE"),
        primary_key=True,
    )
