"""What API keys may do, how much of it, and until when. Those that there are may do everything."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "api_keys", sa.Column("scopes", sa.JSON(), nullable=False, server_default='["admin"]')
    )
    for limit in ("requests_per_minute", "tokens_per_minute"):
        op.add_column("api_keys", sa.Column(limit, sa.Integer(), nullable=True))
    op.add_column("api_keys", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
