"""One gateway at a time works on a row; whoever was away for too long changes nothing."""

import threading
from datetime import timedelta
from typing import Any

import pytest

from gateway.database import Database
from gateway.evaluations.recording import EVALUATIONS
from gateway.leases import MAX_LOST, Kind, Lease, LeaseLost, claim
from gateway.synthesis.recording import SYNTHESES
from gateway.tables import Evaluation, Synthesis, now
from tests.gateway.parts import DATASET, OWNER, add_dataset

KINDS = pytest.mark.parametrize("kind", [EVALUATIONS, SYNTHESES], ids=lambda kind: kind.table)


def add(database: Database, kind: Kind[Any], *, owner: str = OWNER, **changes: Any) -> str:
    given: dict[str, Any] = {"owner": owner, "spec": {"count": 3, "model": "m"}, **changes}
    row = (
        Evaluation(dataset_id=DATASET, task="general", examples=1, total=1, **given)
        if kind.table is Evaluation
        else Synthesis(name="n", **given)
    )
    with database.write() as session:
        session.add(row)
    return row.id


def claimed(database: Database, kind: Kind[Any], *, seconds: float = 60, **how: Any) -> Lease[Any]:
    lease = claim(database, kind, seconds=seconds, **how)
    assert lease is not None
    return lease


def read(database: Database, lease: Lease[Any]) -> Any:
    with database.read() as session:
        return session.get_one(lease.kind.table, lease.id)


@pytest.fixture(autouse=True)
def data(either_database: Database) -> None:
    add_dataset(either_database)


@KINDS
def test_each_is_one_holders_the_oldest_first(either_database: Database, kind: Kind[Any]) -> None:
    first, second = (add(either_database, kind) for _ in range(2))
    lease = claimed(either_database, kind)
    assert (lease.id, lease.owner) == (first, OWNER)
    assert claimed(either_database, kind).id == second
    assert claim(either_database, kind, seconds=60) is None
    found = read(either_database, lease)
    assert found.status == "running" and found.started_at is not None
    lease.release()
    again = claimed(either_database, kind)
    assert again.id == first and again.holder != lease.holder
    # Left to others, and not lost.
    assert read(either_database, again).lost == 0


@KINDS
def test_of_many_who_want_it_one_gets_it(either_database: Database, kind: Kind[Any]) -> None:
    add(either_database, kind)
    got = []
    together = threading.Barrier(8)

    def want() -> None:
        together.wait()
        got.append(claim(either_database, kind, seconds=60))

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8 and sum(lease is not None for lease in got) == 1


@KINDS
def test_who_was_away_for_too_long_changes_nothing(
    either_database: Database, kind: Kind[Any]
) -> None:
    add(either_database, kind)
    frozen = claimed(either_database, kind, seconds=-1)
    other = claimed(either_database, kind)
    assert other.id == frozen.id and read(either_database, other).lost == 1
    for write in (frozen.renew, frozen.release, lambda: frozen.fail("x", "y")):
        with pytest.raises(LeaseLost):
            write()
    with pytest.raises(LeaseLost), frozen.writing() as (_, found):
        found.status = "cancelled"
    found = read(either_database, other)
    assert (found.status, found.holder, found.error_code) == ("running", other.holder, None)
    assert claim(either_database, kind, seconds=60) is None


@KINDS
def test_renewed_it_is_held_for_longer(either_database: Database, kind: Kind[Any]) -> None:
    add(either_database, kind)
    lease = claimed(either_database, kind, seconds=60)
    with lease.writing() as (_, found):
        found.held_until = now() - timedelta(seconds=1)
    # Nobody took it: it is still ours.
    lease.renew()
    assert claim(either_database, kind, seconds=60) is None
    assert read(either_database, lease).held_until > now() + timedelta(seconds=50)


@KINDS
def test_of_who_is_lost_again_and_again_its_owner_is_told_and_others_have_their_turn(
    either_database: Database, kind: Kind[Any]
) -> None:
    poison = add(either_database, kind)
    lost = [claimed(either_database, kind, seconds=-1) for _ in range(MAX_LOST)]
    assert {lease.id for lease in lost} == {poison}
    other = add(either_database, kind)
    assert claimed(either_database, kind).id == other
    found = read(either_database, lost[0])
    assert (found.status, found.error_code, found.holder) == ("failed", "gateway_lost", None)
    assert found.finished_at is not None and "5 times" in found.error_message


@KINDS
@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_what_has_ended_is_left_alone(
    either_database: Database, kind: Kind[Any], status: str
) -> None:
    add(either_database, kind, status=status)
    assert claim(either_database, kind, seconds=60) is None


@KINDS
def test_a_failure_is_the_last_write(either_database: Database, kind: Kind[Any]) -> None:
    add(either_database, kind)
    lease = claimed(either_database, kind)
    lease.fail("code", "Why.")
    found = read(either_database, lease)
    assert (found.status, found.error_code, found.error_message) == ("failed", "code", "Why.")
    assert found.holder is None and found.finished_at is not None
    with pytest.raises(LeaseLost):
        lease.fail("other", "Because.")


@KINDS
def test_owners_take_turns(either_database: Database, kind: Kind[Any]) -> None:
    for minutes in range(3):
        add(either_database, kind, created_at=now() - timedelta(minutes=10 - minutes))
    theirs = add(either_database, kind, owner="other")
    first = claimed(either_database, kind)
    assert first.owner == OWNER
    assert claimed(either_database, kind, served=[OWNER]).id == theirs
    assert claimed(either_database, kind, served=[OWNER, "other"]).owner == OWNER
