"""The database and the queue by their addresses: what is opened, and what is refused in a line."""

import sys
from pathlib import Path

import pytest

from gateway.connections import UnusableQueue, check_queue_address, open_database
from gateway.migrations import UnusableDatabase, migrate
from gateway.settings import SQLITE_FILE, GatewaySettings


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(data_dir=tmp_path)


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


def test_a_new_database_is_for_its_owner_alone_from_the_start(settings: GatewaySettings) -> None:
    database = open_database(settings)
    assert mode(settings.root / SQLITE_FILE) == 0o600
    migrate(database)
    assert {mode(file) for file in settings.root.glob(f"{SQLITE_FILE}*")} == {0o600}
    database.close()


def test_one_that_others_could_read_is_closed_to_them(settings: GatewaySettings) -> None:
    files = [settings.root / f"{SQLITE_FILE}{end}" for end in ("", "-wal", "-shm")]
    for file in files:
        file.touch(mode=0o644)
        file.chmod(0o644)
    open_database(settings).close()
    assert {mode(file) for file in files} == {0o600}


def test_a_database_that_cannot_be_opened_is_named(settings: GatewaySettings) -> None:
    (settings.root / SQLITE_FILE).mkdir()
    with pytest.raises(UnusableDatabase, match=r"genplat\.db cannot be opened .*GENPLAT_DATA_DIR"):
        open_database(settings)


@pytest.mark.parametrize(
    "url",
    [
        "localhost/genplat",
        "postgresql:/me:secret@db/genplat",
        "postgresql://me:secret@db:port/genplat",
        "postgresql://me:secret@[::1/genplat",
        "mysql://me:secret@db/genplat",
        "sqlite+secret:///genplat.db",
    ],
)
def test_a_database_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(
        UnusableDatabase, match=r"GENPLAT_DATABASE_URL is no address .*postgresql://user:password@"
    ) as caught:
        open_database(GatewaySettings(data_dir=tmp_path, database_url=url))
    assert "secret" not in str(caught.value)


def test_a_driver_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    settings = GatewaySettings(data_dir=tmp_path, database_url="postgresql://me:secret@db/genplat")
    with pytest.raises(
        UnusableDatabase, match=r"GENPLAT_DATABASE_URL needs psycopg.*pip install 'genplat\[postgr"
    ) as caught:
        open_database(settings)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:6379/0", "rediss://:pw@redis", "unix:///run/redis.sock"]
)
def test_an_address_of_a_queue_passes(url: str) -> None:
    check_queue_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://:secret@redis",
        "redis://[::1/0",
        "redis://:secret/word@redis:6379/0",
        "redis://:secret@redis:99999/0",
        "redis://:secret@redis/first",  # only ARQ in the trainer would stumble on it
        "redis://:secret@redis/0?no_such_option=1",  # only the first connection would
    ],
)
def test_a_queue_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(
        UnusableQueue, match=r"GENPLAT_REDIS_URL is no address .*redis://"
    ) as caught:
        check_queue_address(url)
    assert "secret" not in str(caught.value)
