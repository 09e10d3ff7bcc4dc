"""Whose claim an Idempotency-Key is, and which key opened a session."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("idempotent_requests", sa.Column("claim", sa.String(), nullable=True))
    op.add_column("login_sessions", sa.Column("key_id", sa.String(), nullable=True))
    op.create_index(op.f("ix_login_sessions_key_id"), "login_sessions", ["key_id"], unique=False)
