"""The request log."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "request_log",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=True),
        sa.Column("drawn", sa.String(), nullable=True),
        sa.Column("served_by", sa.String(), nullable=True),
        sa.Column("continued_by", sa.String(), nullable=True),
        sa.Column("fallbacks", sa.Integer(), nullable=False),
        sa.Column("fallback_reason", sa.String(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("client", sa.String(), nullable=True),
        sa.Column("messages", sa.JSON(), nullable=True),
        sa.Column("reply", sa.String(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("finish_reason", sa.String(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("first_token_seconds", sa.Float(), nullable=True),
        sa.Column("rendered", sa.Boolean(), nullable=True),
        sa.Column("feedback", sa.Integer(), nullable=True),
        sa.Column("feedback_comment", sa.String(), nullable=True),
        sa.Column("feedback_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("shadow_of", sa.String(), nullable=True),
        sa.Column("unit", sa.String(), nullable=True),
    )
    for column in ("owner", "created_at", "route", "shadow_of"):
        op.create_index(f"ix_request_log_{column}", "request_log", [column])
