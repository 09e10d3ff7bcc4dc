"""The database: one engine, short sessions. Knows nothing of what the tables mean."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.pool import QueuePool
from sqlmodel import Session, create_engine

from gateway.disk_reserve import DiskReserve

_WRITE = "genplat_write"
# A server that does not answer must not hold every request for as long as the network waits.
CONNECT_SECONDS = 5
POOL_SECONDS = 10.0
CLOSE_SECONDS = 5.0
_LOOK_SECONDS = 0.01


def make_engine(url: str) -> Engine:
    """An engine for SQLite (WAL, foreign keys, immediate write transactions) or PostgreSQL."""
    if not url.startswith("sqlite"):
        # A server whose databases declare no encoding would otherwise answer in bytes.
        return create_engine(
            url,
            pool_pre_ping=True,
            pool_timeout=POOL_SECONDS,
            connect_args={"client_encoding": "utf8", "connect_timeout": CONNECT_SECONDS},
        )
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 5})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # Autocommit on the driver's side: it must not open transactions of its own.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "busy_timeout=5000",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")
    # SQLite's own knows the letters of ASCII alone.
    connection.create_function("lower", 1, _lower, deterministic=True)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later can find itself locked out half-way;
    # BEGIN IMMEDIATE takes the write lock at the start, where waiting for it works.
    immediate = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


class Database:
    """Sessions over one engine. Objects stay readable after their session closed. ``reserve``:
    where the database shares its disk with what fills it."""

    def __init__(self, engine: Engine, *, reserve: DiskReserve | None = None) -> None:
        self.engine = engine
        self.reserve = reserve
        if reserve is not None:
            reserve.watch(engine)
        # Of this process: whoever remembers what was read can see that it may have changed.
        self.writes = 0
        self._writer = engine.execution_options(**{_WRITE: True})

    @contextmanager
    def read(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits at the end of the block, or rolls back where it raises."""
        try:
            with self.write_unnoticed() as session:
                yield session
        finally:
            self.writes += 1

    @contextmanager
    def write_unnoticed(self) -> Iterator[Session]:
        """The same for what nobody remembers: new rows that nothing was read of before."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self, *, patience: float = CLOSE_SECONDS) -> None:
        """Close all connections. Threads outlive the tasks that began them: those that still read
        or write may end first, within so many seconds; what they held would stay open for ever."""
        pool, until = self.engine.pool, time.monotonic() + patience
        if isinstance(pool, QueuePool):
            while pool.checkedout() > 0 and time.monotonic() < until:
                time.sleep(_LOOK_SECONDS)
        self.engine.dispose()
