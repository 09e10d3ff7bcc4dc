"""Drills of routes, and whose requests stay with a target."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("routes", sa.Column("sticky", sa.String(), nullable=True))
    op.add_column("routes", sa.Column("drill", sa.JSON(), nullable=True))
