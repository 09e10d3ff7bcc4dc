"""One at a time works on a batch; whoever was away for too long changes nothing."""

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlmodel import select

from gateway.batches import files, recording
from gateway.batches.answers import Answered
from gateway.batches.leases import Lease, LeaseLost, claim
from gateway.batches.recording import answered_lines, finish, record
from gateway.batches.states import ENDPOINTS
from gateway.database import Database
from gateway.tables import Batch, BatchFile, now
from shared.storage import Storage
from tests.gateway.parts import asynchronous

OWNER = "admin"


def add_batch(database: Database, *, owner: str = OWNER, **changes: object) -> str:
    with database.write() as session:
        batch = Batch(
            owner=owner,
            endpoint=ENDPOINTS[0],
            input_file_id="bf_x",
            status="in_progress",
            total=2,
            expires_at=now() + timedelta(hours=1),
        )
        for name, value in changes.items():
            setattr(batch, name, value)
        session.add(batch)
    return batch.id


def answered(line: int, *, failed: bool = False) -> Answered:
    return Answered(line, f'{{"line": {line}}}', failed, input_tokens=2, output_tokens=3)


def read(database: Database, batch_id: str) -> Batch:
    with database.read() as session:
        return session.get_one(Batch, batch_id)


def test_what_somebody_works_on_is_nobody_elses(either_database: Database) -> None:
    batch_id = add_batch(either_database)
    first = claim(either_database, seconds=30)
    assert first is not None and first.batch_id == batch_id
    assert claim(either_database, seconds=30) is None
    first.release()
    assert claim(either_database, seconds=30) is not None


def test_of_many_who_want_it_one_gets_it(either_database: Database) -> None:
    add_batch(either_database)
    got = []
    together = threading.Barrier(8)

    def want() -> None:
        together.wait()
        got.append(claim(either_database, seconds=30))

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(lease is not None for lease in got) == 1


def test_who_was_away_for_too_long_changes_nothing(either_database: Database) -> None:
    batch_id = add_batch(either_database)
    frozen = claim(either_database, seconds=0)
    assert frozen is not None
    record(frozen, [answered(1)])
    other = claim(either_database, seconds=30)
    assert other is not None and answered_lines(other) == {1}
    for work in (lambda: record(frozen, [answered(2)]), frozen.renew):
        with pytest.raises(LeaseLost):
            work()
    frozen.release()
    assert claim(either_database, seconds=30) is None
    record(other, [answered(2, failed=True)])
    batch = read(either_database, batch_id)
    assert (batch.completed, batch.failed) == (1, 1)
    assert (batch.input_tokens, batch.output_tokens) == (4, 6)


def test_who_writes_keeps_the_lease(either_database: Database) -> None:
    batch_id = add_batch(either_database, total=1200)
    lease = claim(either_database, seconds=30)
    assert lease is not None
    with either_database.write() as session:
        session.get_one(Batch, batch_id).lease_until = now() + timedelta(seconds=1)
    noticed = either_database.writes
    recording.record_many(lease, (answered(line) for line in range(1200)))
    batch = read(either_database, batch_id)
    assert batch.lease_until is not None
    assert batch.lease_until > now() + timedelta(seconds=20)
    assert (batch.completed, batch.output_tokens) == (1200, 3600)
    assert answered_lines(lease) == set(range(1200))
    # What others remember of the database has not changed.
    assert either_database.writes == noticed
    lease.release()
    assert read(either_database, batch_id).lease_until is None


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled"])
def test_what_has_ended_is_left_alone(database: Database, status: str) -> None:
    add_batch(database, status=status)
    assert claim(database, seconds=30) is None


def test_owners_take_turns(either_database: Database) -> None:
    # However many one of them has.
    for number in range(250):
        add_batch(either_database, created_at=now() - timedelta(minutes=300 - number))
    theirs = add_batch(either_database, owner="other")
    first = claim(either_database, seconds=30)
    assert first is not None and first.owner == OWNER
    second = claim(either_database, seconds=30, busy=[first.owner])
    assert second is not None and second.batch_id == theirs
    busy = [first.owner, second.owner]
    assert claim(either_database, seconds=30, busy=busy) is None
    third = claim(either_database, seconds=30, busy=busy, of_each=2)
    assert third is not None and third.batch_id not in (first.batch_id, theirs)


def test_who_lost_a_batch_while_writing_its_files_does_not_touch_them(
    either_database: Database, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = add_batch(either_database, status="finalizing", output_seconds=3600)
    frozen = claim(either_database, seconds=0)
    assert frozen is not None
    record(frozen, [answered(2), answered(1), answered(3, failed=True)])
    contents = recording._contents

    def taken_over(lease: Lease, *, failed: bool) -> Iterator[str]:
        monkeypatch.undo()
        other = claim(either_database, seconds=30)
        assert other is not None
        finish(other, storage, "completed")
        yield from contents(lease, failed=failed)

    monkeypatch.setattr(recording, "_contents", taken_over)
    with pytest.raises(LeaseLost):
        finish(frozen, storage, "completed")
    batch = read(either_database, batch_id)
    assert batch.status == "completed" and batch.lease_holder is None
    kept = {str(batch.output_file_id), str(batch.error_file_id)}
    assert storage.file(str(batch.output_file_id)).read_text() == '{"line": 1}\n{"line": 2}\n'
    assert storage.file(str(batch.error_file_id)).read_text() == '{"line": 3}\n'
    assert answered_lines(frozen) == set()
    with either_database.write() as session:
        for file in session.exec(select(BatchFile)):
            assert (file.purpose == "batch_output") == (file.id in kept)
            assert file.expires_at is not None and file.expires_at > now()
            if file.id in kept:
                assert file.expires_at - file.created_at == timedelta(hours=1)
            else:
                file.expires_at = now()
    # What was written for nothing goes in time.
    files.remove_expired(either_database, storage)
    assert {path.name for path in (storage.root / "files").iterdir()} == kept


@asynchronous
async def test_who_is_cancelled_waits_until_their_answer_is_stored(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_batch(database)
    lease = claim(database, seconds=30)
    assert lease is not None
    writing = threading.Event()

    def slowly(lease: Lease, several: list[Answered]) -> None:
        writing.set()
        time.sleep(0.2)
        record(lease, several)

    monkeypatch.setattr(recording, "record", slowly)
    adding = asyncio.create_task(recording.Recorder(lease).add(answered(1)))
    await asyncio.to_thread(writing.wait)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert answered_lines(lease) == {1}
