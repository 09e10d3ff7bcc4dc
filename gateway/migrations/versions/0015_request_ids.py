"""By which request a run was made, for the trainer's log; by which key a batch, for its limits."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("request_id", sa.String(), nullable=True))
    op.add_column("batches", sa.Column("key_id", sa.String(), nullable=True))
