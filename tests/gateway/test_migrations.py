"""Tests of gateway.migrations on both databases."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlmodel import SQLModel

from gateway.database import Database, make_engine
from gateway.migrations import UnusableDatabase, migrate


def test_the_migrated_schema_is_the_tables(either_database: Database) -> None:
    with either_database.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() is not None
        assert compare_metadata(context, SQLModel.metadata) == []


def test_starts_at_the_same_time_migrate_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'genplat.db'}"
    databases = [Database(make_engine(url)) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, databases))
    with databases[0].engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
    for database in databases:
        database.close()


def test_starts_at_the_same_time_migrate_postgres_once(postgres: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [postgres] * 4))
    with postgres.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1


def test_a_newer_schema_is_refused(either_database: Database) -> None:
    with either_database.write() as session:
        session.connection().execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UnusableDatabase, match="newer GenPlat"):
        migrate(either_database)


def test_a_truncated_database_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "genplat.db"
    database = Database(make_engine(f"sqlite:///{path}"))
    migrate(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    damaged = Database(make_engine(f"sqlite:///{path}"))
    with pytest.raises(UnusableDatabase) as refused:
        migrate(damaged)
    damaged.close()
    assert "damaged" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "genplat.db"
    path.write_bytes(b"this is no database at all" * 100)
    database = Database(make_engine(f"sqlite:///{path}"))
    with pytest.raises(UnusableDatabase, match="damaged"):
        migrate(database)
    database.close()
