"""Room that is kept for the database, and given back when it has none left."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from gateway import disk_reserve
from gateway.connections import open_database
from gateway.database import Database, make_engine
from gateway.disk_reserve import DiskReserve
from gateway.reconciler import Reconciler
from gateway.settings import GatewaySettings
from tests.gateway.parts import asynchronous, gateway_services

MIB = 2**20


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(make_engine(f"sqlite:///{tmp_path / 'genplat.db'}"))) as database:
        yield database


def insert(database: Database, size: int = 100) -> None:
    with database.write() as session:
        session.connection().execute(text("INSERT INTO t VALUES (:x)"), {"x": "x" * size})


def test_a_full_database_gives_the_room_back(tmp_path: Path, database: Database) -> None:
    reserve = DiskReserve(tmp_path, MIB)
    reserve.watch(database.engine)
    reserve.take()
    with database.write() as session:
        session.connection().exec_driver_sql("CREATE TABLE t (x)")
    assert reserve.path.stat().st_blocks * 512 >= MIB
    insert(database)
    with pytest.raises(OperationalError, match="no such table"), database.write() as session:
        session.connection().exec_driver_sql("INSERT INTO nowhere VALUES (1)")
    assert reserve.path.exists()
    # SQLite says of its own limit what it says of a disk.
    with database.write() as session:
        session.connection().exec_driver_sql("PRAGMA max_page_count = 3")
        with pytest.raises(OperationalError, match="full"):
            session.connection().execute(text("INSERT INTO t VALUES (:x)"), {"x": "x" * MIB})
        session.rollback()
    assert not reserve.path.exists()
    reserve.take()
    assert reserve.path.stat().st_size == MIB


def test_a_small_disk_is_not_filled_and_zero_is_none(tmp_path: Path) -> None:
    for size in (0, shutil.disk_usage(tmp_path).free // (disk_reserve.PLENTY - 1)):
        reserve = DiskReserve(tmp_path, size)
        reserve.take()
        assert not reserve.path.exists()
        reserve.give_back()


def test_half_a_reserve_is_made_whole(tmp_path: Path) -> None:
    reserve = DiskReserve(tmp_path, MIB)
    reserve.path.write_bytes(b"x")
    reserve.take()
    assert reserve.path.stat().st_size == MIB


@asynchronous
async def test_the_sweep_keeps_room_where_the_database_lies(settings: GatewaySettings) -> None:
    settings = settings.model_copy(update={"disk_reserve_bytes": MIB})
    file = settings.root / disk_reserve.RESERVE_FILE
    async with gateway_services(settings) as services:
        assert not file.exists()
        await Reconciler(services).keep_room()
        assert file.stat().st_size == MIB
    # The database of another host needs no room here.
    elsewhere = settings.model_copy(update={"database_url": "postgresql://db/genplat"})
    with closing(open_database(elsewhere)) as database:
        assert database.reserve is None
