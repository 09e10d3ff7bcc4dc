"""The request log, and how a route chooses among its targets."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text = sa.String()
    op.create_table(
        "request_log",
        sa.Column("id", text, primary_key=True),
        sa.Column("owner", text, nullable=False),
        sa.Column("key_id", text, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", text, nullable=False),
        sa.Column("client", text, nullable=True),
        sa.Column("request_id", text, nullable=True),
        sa.Column("completion_id", text, nullable=True),
        sa.Column("model", text, nullable=False),
        sa.Column("route", text, nullable=True),
        sa.Column("drawn", text, nullable=True),
        sa.Column("served_by", text, nullable=True),
        sa.Column("continued_by", text, nullable=True),
        sa.Column("fallbacks", sa.Integer(), nullable=False),
        sa.Column("fallback_reason", text, nullable=True),
        sa.Column("unit", text, nullable=True),
        sa.Column("shadow_of", text, nullable=True),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("error_code", text, nullable=True),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("first_token_seconds", sa.Float(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("finish_reason", text, nullable=True),
        sa.Column("rendered", sa.Boolean(), nullable=True),
        sa.Column("messages", sa.JSON(), nullable=True),
        sa.Column("prompt", text, nullable=True),
        sa.Column("reply", text, nullable=True),
        sa.Column("withheld", text, nullable=True),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("judge_score", sa.Float(), nullable=True),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("feedback", sa.Integer(), nullable=True),
        sa.Column("feedback_comment", text, nullable=True),
        sa.Column("correction", text, nullable=True),
        sa.Column("feedback_at", sa.DateTime(timezone=True), nullable=True),
    )
    op.create_index("ix_request_log_owner_created_at", "request_log", ["owner", "created_at"])
    for column in ("created_at", "completion_id", "route", "shadow_of"):
        op.create_index(f"ix_request_log_{column}", "request_log", [column])
    op.add_column(
        "routes", sa.Column("balance", sa.String(), nullable=False, server_default="weights")
    )
