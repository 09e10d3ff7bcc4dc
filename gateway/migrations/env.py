"""Alembic's entry point. Runs on the connection that `migrate` hands over, in its transaction."""

from alembic import context
from sqlmodel import SQLModel

from gateway import tables  # noqa: F401 - fills SQLModel.metadata
from gateway.migrations import CONNECTION

context.configure(
    connection=context.config.attributes[CONNECTION], target_metadata=SQLModel.metadata
)
with context.begin_transaction():
    context.run_migrations()
