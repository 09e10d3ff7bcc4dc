"""Tests of gateway.migrations on both databases."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlmodel import SQLModel

from gateway import auth, keys, migrations
from gateway.database import Database, make_engine
from gateway.idempotency import ABANDONED, Answer, Claim, idempotent
from gateway.migrations import CONNECTION, UnusableDatabase, migrate
from gateway.tables import ApiKey, IdempotentRequest, LoginSession, now
from shared.errors import Conflict


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables, of either kind."""
    if request.param == "postgres":
        yield request.getfixturevalue("postgres")
        return
    with closing(Database(make_engine(f"sqlite:///{tmp_path / 'genplat.db'}"))) as database:
        yield database


def upgrade_to(database: Database, revision: str) -> None:
    """Bring a database to the tables that an older version of GenPlat made."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with database.write() as session:
        config.attributes[CONNECTION] = session.connection()
        command.upgrade(config, revision)


def insert(database: Database, table: str, **values: Any) -> None:
    """A row as an older version wrote it: without columns that came later."""
    columns, places = ", ".join(values), ", ".join(f":{name}" for name in values)
    with database.write() as session:
        statement = f"INSERT INTO {table} ({columns}) VALUES ({places})"
        session.connection().execute(text(statement), values)


def test_what_an_older_version_stored_is_still_there(empty_database: Database) -> None:
    database, made = empty_database, now() - timedelta(hours=1)
    upgrade_to(database, "0001")
    insert(
        database,
        "api_keys",
        id="key_old",
        owner="somebody",
        name="laptop",
        hint="gp-…",
        sha256=keys.hash_secret("gp-an-old-key"),
        created_at=made,
    )
    insert(
        database,
        "login_sessions",
        sha256=keys.hash_secret("a-cookie"),
        owner="somebody",
        created_at=made,
        expires_at=now() + timedelta(days=1),
    )
    request = {"owner": "somebody", "request_sha256": "ab", "created_at": made}
    insert(
        database, "idempotent_requests", key="done", status=201, body='{"id": "ds_1"}', **request
    )
    insert(database, "idempotent_requests", key="begun", **request)

    migrate(database)

    with database.read() as session:
        assert session.get_one(ApiKey, "key_old").created_at == made
        opened = session.get_one(LoginSession, keys.hash_secret("a-cookie"))
        assert (opened.owner, opened.key_id, opened.created_at) == ("somebody", None, made)
        done = session.get_one(IdempotentRequest, ("somebody", "done"))
        assert (done.status, done.body, done.claim) == (201, {"id": "ds_1"}, None)
    key = keys.authenticate(database=database, secret="gp-an-old-key")
    assert key is not None and key.owner == "somebody"
    assert auth.session_owner(database=database, cookie="a-cookie") == "somebody"
    assert ask_again(database, "done") == Answer(201, {"id": "ds_1"}, replayed=True)
    # A gateway that stopped for its upgrade never answered this one: it is answered now.
    assert ask_again(database, "begun") == Answer(201, {"id": "ds_2"})
    assert ask_again(database, "begun").replayed
    auth.logout(database=database, cookie="a-cookie")
    assert auth.session_owner(database=database, cookie="a-cookie") is None


def ask_again(database: Database, key: str) -> Answer:
    async def create(claim: Claim | None) -> dict[str, Any]:
        return {"id": "ds_2"}

    return asyncio.run(
        idempotent(
            database=database,
            owner="somebody",
            key=key,
            request_sha256="ab",
            status=201,
            create=create,
        )
    )


def test_what_an_older_version_had_just_begun_is_left_to_it(empty_database: Database) -> None:
    upgrade_to(empty_database, "0001")
    insert(
        empty_database,
        "idempotent_requests",
        owner="somebody",
        key="begun",
        request_sha256="ab",
        created_at=now() - ABANDONED / 2,
    )
    migrate(empty_database)
    with pytest.raises(Conflict):
        ask_again(empty_database, "begun")


def test_an_upgrade_of_every_older_schema_makes_the_tables(empty_database: Database) -> None:
    for revision in ("0001", "0002"):
        upgrade_to(empty_database, revision)
    migrate(empty_database)
    migrate(empty_database)
    with empty_database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []


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
