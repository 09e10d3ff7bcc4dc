"""How a route chooses among its targets."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "routes", sa.Column("balance", sa.String(), nullable=False, server_default="weights")
    )
