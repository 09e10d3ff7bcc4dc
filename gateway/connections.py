"""The database and the queue that the settings name, opened the same way by services and commands.

An address that cannot be one is refused in a line; libraries would tell it in a traceback, some of
them with a piece of the password in it.
"""

import contextlib
import os
import re
from pathlib import Path

from redis import ConnectionPool
from sqlalchemy.exc import ArgumentError

from gateway.database import Database, make_engine
from gateway.disk_reserve import DiskReserve
from gateway.migrations import UnusableDatabase
from gateway.settings import SQLITE_FILE, GatewaySettings
from shared.job_queue import redis_settings

_NO_DATABASE_URL = (
    "GENPLAT_DATABASE_URL is no address of a database. Write it as "
    "postgresql://user:password@host:5432/name (special characters of the password as %XX), or "
    "unset it to use SQLite in the data folder."
)
_NO_REDIS_URL = (
    "GENPLAT_REDIS_URL is no address of a Redis. Write it as redis://:password@host:6379/0 "
    "(special characters of the password as %XX); `genplat up` without it brings its own queue."
)


class UnusableQueue(Exception):
    """The queue cannot be used; the message says why and what to do."""


def open_database(settings: GatewaySettings) -> Database:
    """The database, to which nothing is sent yet; the caller closes it."""
    if not settings.database_url:
        _keep_to_owner(settings.root / SQLITE_FILE)
    elif not re.match(r"(postgres(ql)?(\+\w+)?|sqlite)://", settings.database_url):
        raise UnusableDatabase(_NO_DATABASE_URL)
    try:
        return Database(make_engine(settings.sqlalchemy_url), reserve=_reserve(settings))
    except (ArgumentError, ValueError):
        raise UnusableDatabase(_NO_DATABASE_URL) from None
    except ImportError as error:
        why = str(error).partition("\n")[0]
        raise UnusableDatabase(
            f"GENPLAT_DATABASE_URL needs psycopg, which cannot be loaded ({why}): "
            "pip install 'genplat[postgres]', or unset it to use SQLite in the data folder."
        ) from error


def _reserve(settings: GatewaySettings) -> DiskReserve | None:
    """For the embedded database: another one's disk is not this one."""
    if settings.database_url:
        return None
    return DiskReserve(settings.root, settings.disk_reserve_bytes)


def _keep_to_owner(file: Path) -> None:
    """Make the SQLite file for its owner alone, and one that others could read so again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise UnusableDatabase(
            f"{file} cannot be opened ({error.strerror}). Make it yours, or choose another folder "
            "with GENPLAT_DATA_DIR."
        ) from error
    # SQLite gives new log files the rights of the database; those of a crash are there already.
    for end in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            file.with_name(file.name + end).chmod(0o600)


def check_queue_address(redis_url: str) -> None:
    """Whether both redis-py and ARQ can read it; nothing is sent."""
    try:
        # Options that do not exist are noticed only where a connection is made (not opened).
        ConnectionPool.from_url(redis_url).make_connection()
        redis_settings(redis_url)
    except (ValueError, TypeError, RuntimeError):
        raise UnusableQueue(_NO_REDIS_URL) from None
