"""Syntheses with their answers and rows; where a dataset was derived from."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("datasets", sa.Column("derived_from", sa.JSON(), nullable=True))
    _syntheses()
    op.create_table(
        "synthesis_answers",
        _of_synthesis(),
        sa.Column("request", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("cut_off", sa.Boolean(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
    )
    op.create_table(
        "synthesis_rows",
        _of_synthesis(),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("request", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("prompt", sa.String(), nullable=False),
        sa.Column("completion", sa.String(), nullable=False),
        sa.Column("original", sa.JSON(), nullable=True),
        sa.Column("aim", sa.String(), nullable=False),
        sa.Column("axis", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("said", sa.String(), nullable=True),
        sa.Column("matched", sa.JSON(), nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("judged", sa.String(), nullable=False),
        sa.Column("rendered", sa.Boolean(), nullable=True),
        sa.Column("reviewed_at", _TIME, nullable=True),
        sa.CheckConstraint(
            "status IN ('dropped','pending','accepted','edited','rejected')",
            name="synthesis_row_status",
        ),
    )


def _of_synthesis() -> sa.Column[str]:
    return sa.Column(
        "synthesis_id",
        sa.String(),
        sa.ForeignKey("syntheses.id", ondelete="CASCADE"),
        primary_key=True,
    )


def _syntheses() -> None:
    op.create_table(
        "syntheses",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=True),
        sa.Column("evaluation_id", sa.String(), nullable=True),
        sa.Column("aims", sa.JSON(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("kept", "dropped", "requests", "prompt_tokens", "completion_tokens")
        ),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column("result_id", sa.String(), nullable=True),
        sa.Column("holder", sa.String(), nullable=True),
        sa.Column("held_until", _TIME, nullable=True),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("started_at", _TIME, nullable=True),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.CheckConstraint(
            "status IN ('queued','running','reviewing','succeeded','failed','cancelled')",
            name="synthesis_status",
        ),
    )
    for column in ("owner", "dataset_id", "evaluation_id", "created_at"):
        op.create_index(f"ix_syntheses_{column}", "syntheses", [column])
    op.create_index("ix_syntheses_status_created", "syntheses", ["status", "created_at"])
