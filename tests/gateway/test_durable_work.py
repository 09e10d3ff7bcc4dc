"""Rows are brought to their ends, whatever becomes of those who work on them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.answering import AnswersEnded
from gateway.database import Database
from gateway.durable_work import Worker
from gateway.leases import MAX_LOST, Lease, claim
from gateway.migrations import migrate
from gateway.synthesis.recording import SYNTHESES, review
from gateway.synthesis.views import cancel_synthesis
from gateway.tables import Synthesis
from shared.errors import InvalidData
from tests.gateway.parts import OWNER, asynchronous, background, until

Work = Callable[[Lease[Synthesis]], Awaitable[None]]


@pytest.fixture
def migrated(database: Database) -> Database:
    migrate(database)
    return database


def add(database: Database, owner: str = OWNER) -> str:
    with database.write() as session:
        row = Synthesis(owner=owner, name="n", spec={"count": 3, "model": "m"})
        session.add(row)
    return row.id


def read(database: Database, row_id: str) -> Synthesis:
    with database.read() as session:
        return session.get_one(Synthesis, row_id)


def worker(database: Database, work: Work, *, seconds: float = 60) -> Worker[Any]:
    return Worker(database, SYNTHESES, work, asyncio.Event(), seconds, look_seconds=0.02)


async def well(lease: Lease[Synthesis]) -> None:
    await asyncio.to_thread(review, lease)


@asynchronous
async def test_what_fails_unforeseen_keeps_no_other_from_its_turn_and_is_given_up(
    migrated: Database,
) -> None:
    poison = add(migrated)
    others = [add(migrated) for _ in range(3)]
    tried = 0

    async def work(lease: Lease[Synthesis]) -> None:
        nonlocal tried
        if lease.id == poison:
            tried += 1
            raise ZeroDivisionError
        await well(lease)

    async with background(worker(migrated, work, seconds=0.1).run()):
        await until(lambda: all(read(migrated, one).status == "reviewing" for one in others))
        await until(lambda: read(migrated, poison).status == "failed")
    assert read(migrated, poison).error_code == "gateway_lost"
    assert tried == MAX_LOST


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InvalidData("dataset_id: it is gone.", code="gone"), "gone", "dataset_id: it is gone."),
        (AnswersEnded("Nobody answers."), "answers_ended", "Nobody answers."),
    ],
)
@asynchronous
async def test_named_errors_end_it(
    migrated: Database, error: Exception, code: str, said: str
) -> None:
    row = add(migrated)

    async def work(lease: Lease[Synthesis]) -> None:
        raise error

    async with background(worker(migrated, work).run()):
        await until(lambda: read(migrated, row).status == "failed")
    found = read(migrated, row)
    assert (found.error_code, found.error_message) == (code, said)


@asynchronous
async def test_a_gateway_that_stops_hands_over_at_once(migrated: Database) -> None:
    row, began, left = add(migrated), asyncio.Event(), asyncio.Event()

    async def work(lease: Lease[Synthesis]) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            left.set()

    async with background(worker(migrated, work, seconds=600).run()):
        await asyncio.wait_for(began.wait(), 20)
        assert claim(migrated, SYNTHESES, seconds=60) is None
    assert left.is_set() and read(migrated, row).holder is None
    async with background(worker(migrated, well).run()):
        await until(lambda: read(migrated, row).status == "reviewing")
    assert read(migrated, row).lost == 0


@asynchronous
async def test_what_is_cancelled_is_not_worked_on_any_more(migrated: Database) -> None:
    row, began, left = add(migrated), asyncio.Event(), asyncio.Event()

    async def work(lease: Lease[Synthesis]) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            left.set()

    async with background(worker(migrated, work, seconds=0.3).run()):
        await asyncio.wait_for(began.wait(), 20)
        cancel_synthesis(database=migrated, owner=OWNER, synthesis_id=row)
        await asyncio.wait_for(left.wait(), 20)
    assert read(migrated, row).status == "cancelled"


@asynchronous
async def test_a_lease_is_renewed_as_long_as_the_work_takes(migrated: Database) -> None:
    row, done = add(migrated), asyncio.Event()

    async def work(lease: Lease[Synthesis]) -> None:
        # Many leases long.
        for _ in range(10):
            await asyncio.sleep(0.1)
            assert await asyncio.to_thread(claim, migrated, SYNTHESES, seconds=60) is None
        await well(lease)
        done.set()

    async with background(worker(migrated, work, seconds=0.3).run()):
        await asyncio.wait_for(done.wait(), 20)
    assert read(migrated, row).status == "reviewing"


@asynchronous
async def test_two_gateways_share_what_waits(migrated: Database) -> None:
    rows = [add(migrated) for _ in range(6)]
    worked: list[str] = []

    async def work(lease: Lease[Synthesis]) -> None:
        worked.append(lease.id)
        await asyncio.sleep(0.02)
        await well(lease)

    one, other = worker(migrated, work), worker(migrated, work)
    async with background(one.run(), other.run()):
        await until(lambda: all(read(migrated, row).status == "reviewing" for row in rows))
    assert sorted(worked) == sorted(rows)
