"""How often a run was stopped from outside since its last checkpoint."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "runs", sa.Column("preemptions", sa.Integer(), nullable=False, server_default="0")
    )
