"""Tests of the library: what can be chosen, adding to it, and the way to a prepared model."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from gateway import library
from gateway.database import Database
from gateway.library import list_library
from gateway.tables import LibraryModel
from shared.errors import NotFound, Unavailable
from shared.model_library import built_in_library
from shared.storage import Storage
from tests.gateway.library_parts import HUB_MODEL, FakeQueue, item, prepare, put_prepared, settle


def test_of_two_requests_at_once_one_prepares(either_database: Database, tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        jobs = list(
            pool.map(lambda _: library._begin(either_database, storage, "me", HUB_MODEL), range(8))
        )
    assert len([job for job in jobs if job is not None]) == 1


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


def age(database: Database, model_id: str) -> None:
    with database.write() as session:
        row = session.get_one(LibraryModel, model_id)
        assert row.preparing_since is not None
        row.preparing_since -= library.SETTLING + timedelta(seconds=1)
        session.add(row)


def test_what_ships_is_listed(database: Database, storage: Storage) -> None:
    found = list_library(database=database, storage=storage, owner="me")
    assert [entry.entry.id for entry in found] == list(built_in_library())
    assert item(database, storage, HUB_MODEL).state == "missing"
    with pytest.raises(NotFound):
        item(database, storage, "no/such")


def test_a_preparation_from_start_to_end(
    either_database: Database, storage: Storage, queue: FakeQueue
) -> None:
    database = either_database
    assert prepare(database, storage, queue, HUB_MODEL).state == "preparing"
    assert list(queue.jobs.values()) == [
        {"function": "prepare_base_model", "model_id": HUB_MODEL, "folder": None}
    ]
    assert prepare(database, storage, queue, HUB_MODEL).state == "preparing"
    assert len(queue.jobs) == 1
    put_prepared(storage, HUB_MODEL)
    assert item(database, storage, HUB_MODEL).state == "ready"
    settle(database, storage, queue)
    with database.read() as session:
        assert session.get_one(LibraryModel, HUB_MODEL).preparing_job is None
    assert prepare(database, storage, queue, HUB_MODEL).state == "ready"
    assert len(queue.jobs) == 1


def test_a_preparation_that_fails_says_why_and_can_be_repeated(
    database: Database, storage: Storage, queue: FakeQueue
) -> None:
    prepare(database, storage, queue, HUB_MODEL)
    reason = storage.base_model(HUB_MODEL).with_suffix(".error.json")
    reason.parent.mkdir(parents=True)
    reason.write_text(json.dumps({"code": "not_found", "message": "The hub cannot be reached."}))
    age(database, HUB_MODEL)
    settle(database, storage, queue)
    assert item(database, storage, HUB_MODEL).state == "preparing"
    queue.jobs.clear()
    settle(database, storage, queue)
    failed = item(database, storage, HUB_MODEL)
    assert (failed.state, failed.error) == ("failed", "The hub cannot be reached.")
    assert prepare(database, storage, queue, HUB_MODEL).state == "preparing"
    assert len(queue.jobs) == 1


def test_a_fresh_job_is_not_declared_lost(
    database: Database, storage: Storage, queue: FakeQueue
) -> None:
    prepare(database, storage, queue, HUB_MODEL)
    queue.jobs.clear()
    settle(database, storage, queue)
    assert item(database, storage, HUB_MODEL).state == "preparing"


def test_a_lost_job_without_a_reason_fails(
    database: Database, storage: Storage, queue: FakeQueue
) -> None:
    prepare(database, storage, queue, HUB_MODEL)
    queue.jobs.clear()
    age(database, HUB_MODEL)
    settle(database, storage, queue)
    assert "try again" in str(item(database, storage, HUB_MODEL).error)


def test_while_redis_is_away_nothing_starts_and_nothing_is_declared(
    database: Database, storage: Storage, queue: FakeQueue
) -> None:
    queue.away = True
    with pytest.raises(Unavailable) as refused:
        prepare(database, storage, queue, HUB_MODEL)
    assert refused.value.code == "queue_unavailable"
    assert item(database, storage, HUB_MODEL).state == "missing"
    queue.away = False
    prepare(database, storage, queue, HUB_MODEL)
    age(database, HUB_MODEL)
    queue.jobs.clear()
    queue.away = True
    settle(database, storage, queue)
    assert item(database, storage, HUB_MODEL).state == "preparing"
