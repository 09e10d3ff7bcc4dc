"""Brings a database to this version's tables, or says in one line why it cannot be used."""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError

from gateway.database import Database

log = logging.getLogger(__name__)
# Its own lines tell people nothing that ours does not.
logging.getLogger("alembic").setLevel(logging.WARNING)

# Any number: PostgreSQL's advisory locks are named by one.
_LOCK = 7_235_911_470
CONNECTION = "connection"


class UnusableDatabase(Exception):
    """The database cannot be used; the message says why and what to do."""


def migrate(database: Database) -> None:
    """Upgrade to the newest tables in one transaction. Of several starts at once, one does it:
    SQLite's write transactions exclude one another, PostgreSQL takes an advisory lock."""
    try:
        with database.write() as session:
            _upgrade(session.connection())
    except DatabaseError as error:
        raise UnusableDatabase(_explain(database, error)) from error


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    else:
        _check_file(connection)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes[CONNECTION] = connection
    scripts = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in {
        script.revision for script in scripts.walk_revisions()
    }:
        raise UnusableDatabase(
            f"The database was last used by a newer GenPlat (schema {current}). "
            "Install that version, or use another GENPLAT_DATABASE_URL or GENPLAT_DATA_DIR."
        )
    if current != (newest := scripts.get_current_head()):
        command.upgrade(config, "head")
        log.info("The database has schema %s now (before: %s).", newest, current or "empty")


def _check_file(connection: Connection) -> None:
    """A truncated file may still open; a missing page shows only when it is read."""
    found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if found != "ok":
        raise UnusableDatabase(
            f"The database file is damaged ({found}). Put a backup in its place."
        )


def _explain(database: Database, error: DatabaseError) -> str:
    said = str(error.orig).strip().splitlines()[0]
    if database.engine.dialect.name == "sqlite":
        place = database.engine.url.database
        if "malformed" in said or "not a database" in said or "disk I/O" in said:
            return f"{place} is damaged ({said}). Put a backup in its place."
        return f"{place} cannot be used: {said}."
    return f"The database does not answer as it should: {said}. Look at GENPLAT_DATABASE_URL."
