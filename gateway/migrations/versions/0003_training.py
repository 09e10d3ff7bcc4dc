"""Checkpoints with metrics, pausing and stopping, fair order, several forms of data."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    added = {
        "runs": (
            sa.Column("pause_requested_at", time, nullable=True),
            sa.Column("stop_requested_at", time, nullable=True),
            sa.Column("queue_rank", sa.BigInteger(), nullable=False, server_default="0"),
            sa.Column("openai", sa.JSON(), nullable=True),
            sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
            sa.Column("best_step", sa.Integer(), nullable=True),
            sa.Column("stopped", sa.String(), nullable=True),
            sa.Column("resumed_at", time, nullable=True),
        ),
        "metrics": (
            sa.Column("mean_token_accuracy", sa.Float(), nullable=True),
            sa.Column("eval_mean_token_accuracy", sa.Float(), nullable=True),
            sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        ),
        "datasets": (
            sa.Column("skipped_rows", sa.Integer(), nullable=False, server_default="0"),
            sa.Column("problems", sa.JSON(), nullable=False, server_default="[]"),
            sa.Column("mapping", sa.JSON(), nullable=True),
            sa.Column("imported_from", sa.JSON(), nullable=True),
        ),
        "deployments": (sa.Column("checkpoint", sa.Integer(), nullable=True),),
    }
    for table, columns in added.items():
        for column in columns:
            op.add_column(table, column)
    op.create_table(
        "checkpoints",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("loss", sa.Float(), nullable=True),
        sa.Column("eval_loss", sa.Float(), nullable=True),
        sa.Column("mean_token_accuracy", sa.Float(), nullable=True),
        sa.Column("eval_mean_token_accuracy", sa.Float(), nullable=True),
        sa.Column("best", sa.Boolean(), nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("removed_at", time, nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "step"),
    )
    op.create_table(
        "queue_sights",
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("reachable", sa.Boolean(), nullable=False),
        sa.Column("workers", sa.Integer(), nullable=False),
        sa.Column("changed_at", time, nullable=False),
        sa.PrimaryKeyConstraint("queue"),
    )
