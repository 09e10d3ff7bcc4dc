"""One at a time works on a batch; whoever was away for too long changes nothing."""

import threading
from datetime import timedelta

import pytest

from gateway.batches.answers import Answered
from gateway.batches.leases import LeaseLost, claim
from gateway.batches.recording import answered_lines, finish, record
from gateway.batches.states import ENDPOINTS
from gateway.database import Database
from gateway.tables import Batch, BatchAnswer, BatchFile, now
from shared.storage import Storage

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


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled"])
def test_what_has_ended_is_left_alone(database: Database, status: str) -> None:
    add_batch(database, status=status)
    assert claim(database, seconds=30) is None


def test_owners_take_turns(database: Database) -> None:
    for number in range(3):
        add_batch(database, created_at=now() - timedelta(minutes=10 - number))
    theirs = add_batch(database, owner="other")
    first = claim(database, seconds=30)
    assert first is not None and first.owner == OWNER
    second = claim(database, seconds=30, busy=[first.owner])
    assert second is not None and second.batch_id == theirs


def test_who_died_before_the_end_leaves_nothing_twice(
    either_database: Database, storage: Storage
) -> None:
    batch_id = add_batch(either_database, status="finalizing", output_seconds=3600)
    dead = claim(either_database, seconds=0)
    assert dead is not None
    record(dead, [answered(2), answered(1), answered(3, failed=True)])
    # It wrote its files, and died before it could say so.
    with either_database.write() as session:
        before = {"status": "finalizing", "lease_holder": dead.holder}
    finish(dead, storage, "completed")
    with either_database.write() as session:
        batch = session.get_one(Batch, batch_id)
        for name, value in before.items():
            setattr(batch, name, value)
        for line in (1, 2):
            content = f'{{"line": {line}}}'
            session.add(BatchAnswer(batch_id=batch_id, line=line, failed=False, content=content))
        session.add(BatchAnswer(batch_id=batch_id, line=3, failed=True, content='{"line": 3}'))
    lease = claim(either_database, seconds=30)
    assert lease is not None
    finish(lease, storage, "completed")
    batch = read(either_database, batch_id)
    assert batch.status == "completed" and batch.lease_holder is None
    assert storage.file(str(batch.output_file_id)).read_text() == '{"line": 1}\n{"line": 2}\n'
    assert storage.file(str(batch.error_file_id)).read_text() == '{"line": 3}\n'
    assert len(list((storage.root / "files").iterdir())) == 2
    with either_database.read() as session:
        file = session.get_one(BatchFile, str(batch.output_file_id))
        assert file.purpose == "batch_output" and file.expires_at is not None
        assert file.expires_at - file.created_at == timedelta(hours=1)
    assert answered_lines(lease) == set()
