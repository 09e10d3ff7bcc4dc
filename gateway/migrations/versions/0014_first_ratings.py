"""What was said of an answer first, beside what is said of it now."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("request_log", sa.Column("first_rating", sa.Integer(), nullable=True))
    op.add_column(
        "request_log", sa.Column("first_rated_at", sa.DateTime(timezone=True), nullable=True)
    )
