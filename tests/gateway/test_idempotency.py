"""Tests of gateway.idempotency on both databases."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import select

from gateway import idempotency
from gateway.database import Database
from gateway.idempotency import ABANDONED, KEPT, Answer, Claim, idempotent
from gateway.tables import IdempotentRequest, Route, now
from shared.errors import Conflict, GenPlatError, InvalidData, InvalidRequest, Unavailable


class Creator:
    """Makes a route a call, and may fail after it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.calls = 0
        self.error: BaseException | None = None
        self.attaches = True
        self.hold: asyncio.Event | None = None

    async def create(self, claim: Claim | None) -> dict[str, Any]:
        self.calls += 1
        if self.hold is not None:
            await self.hold.wait()
        route = Route(name=f"route-{self.calls}", owner="me")
        if self.error is not None and not self.attaches:
            raise self.error
        with self.database.write() as session:
            session.add(route)
            if claim is not None and self.attaches:
                claim.attach(session, route.name)
        if self.error is not None:
            raise self.error
        return {"name": route.name, "secret": "s"}

    async def load(self, name: str) -> dict[str, Any]:
        return {"name": name, "loaded": True}

    async def ask(self, key: str | None = "k", body: str = "body", **options: Any) -> Answer:
        return await idempotent(
            database=self.database,
            owner=options.pop("owner", "me"),
            key=key,
            request_sha256=body,
            status=201,
            create=self.create,
            load=self.load,
            **options,
        )


@pytest.fixture
def creator(either_database: Database) -> Creator:
    return Creator(either_database)


def age(database: Database, by: timedelta) -> None:
    with database.write() as session:
        row = session.exec(select(IdempotentRequest)).one()
        row.created_at -= by
        session.add(row)


def test_a_repeat_gets_the_first_answer(creator: Creator) -> None:
    first = asyncio.run(creator.ask())
    again = asyncio.run(creator.ask())
    assert (first.replayed, again.replayed, creator.calls) == (False, True, 1)
    assert (again.status, again.body) == (first.status, first.body)


def test_without_a_key_everything_is_new(creator: Creator) -> None:
    names = [asyncio.run(creator.ask(None)).body["name"] for _ in range(2)]
    assert names == ["route-1", "route-2"]


def test_another_body_is_refused(creator: Creator) -> None:
    asyncio.run(creator.ask())
    with pytest.raises(InvalidData) as refused:
        asyncio.run(creator.ask(body="other"))
    assert refused.value.code == "idempotency_key_reused"


def test_keys_belong_to_their_owner(creator: Creator) -> None:
    asyncio.run(creator.ask())
    assert not asyncio.run(creator.ask(body="other", owner="you")).replayed


def test_only_one_of_many_at_once_creates(creator: Creator) -> None:
    async def ask() -> Answer | BaseException:
        try:
            return await creator.ask()
        except Conflict as error:
            return error

    async def all_at_once() -> list[Answer | BaseException]:
        return await asyncio.gather(*(ask() for _ in range(20)))

    answers = asyncio.run(all_at_once())
    assert creator.calls == 1
    fresh = [answer for answer in answers if isinstance(answer, Answer) and not answer.replayed]
    assert len(fresh) == 1
    codes = {answer.code for answer in answers if isinstance(answer, Conflict)}
    assert codes <= {"idempotency_key_in_use"}


def test_a_repeat_while_the_first_works_is_a_conflict(creator: Creator) -> None:
    async def overlap() -> None:
        creator.hold = asyncio.Event()
        first = asyncio.create_task(creator.ask())
        while not creator.calls:
            await asyncio.sleep(0.01)
        with pytest.raises(Conflict) as refused:
            await creator.ask()
        assert (refused.value.code, refused.value.retry_after) == ("idempotency_key_in_use", 1)
        creator.hold.set()
        assert not (await first).replayed

    asyncio.run(overlap())


def test_a_failure_frees_the_key(creator: Creator) -> None:
    creator.error, creator.attaches = Unavailable("Not now."), False
    with pytest.raises(Unavailable):
        asyncio.run(creator.ask())
    creator.error = None
    assert not asyncio.run(creator.ask()).replayed


def test_a_failure_after_the_object_was_made_makes_no_second(creator: Creator) -> None:
    creator.error = Unavailable("The answer could not be written.")
    with pytest.raises(Unavailable):
        asyncio.run(creator.ask())
    age(creator.database, ABANDONED * 2)
    again = asyncio.run(creator.ask())
    assert (again.body, again.replayed, creator.calls) == (
        {"name": "route-1", "loaded": True}, True, 1,
    )  # fmt: skip
    assert asyncio.run(creator.ask()).body == again.body


def test_a_gateway_that_died_before_creating_does_not_block_the_key(creator: Creator) -> None:
    row = IdempotentRequest(owner="me", key="k", request_sha256="body", body=None)
    with creator.database.write() as session:
        session.add(row)
    with pytest.raises(Conflict):
        asyncio.run(creator.ask())
    age(creator.database, ABANDONED * 2)
    assert not asyncio.run(creator.ask()).replayed


def test_whoever_works_long_keeps_the_key(
    creator: Creator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "RENEW_SECONDS", 0.05)

    async def overlap() -> None:
        creator.hold = asyncio.Event()
        first = asyncio.create_task(creator.ask())
        while not creator.calls:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(age, creator.database, ABANDONED * 2)
        while await asyncio.to_thread(is_abandoned, creator.database):
            await asyncio.sleep(0.01)
        with pytest.raises(Conflict):
            await creator.ask()
        creator.hold.set()
        assert not (await first).replayed
        assert (await creator.ask()).replayed

    asyncio.run(overlap())


def is_abandoned(database: Database) -> bool:
    with database.read() as session:
        return session.exec(select(IdempotentRequest)).one().created_at < now() - ABANDONED


def test_a_claim_that_was_taken_over_creates_nothing(creator: Creator) -> None:
    async def overtake() -> None:
        creator.hold = asyncio.Event()
        first = asyncio.create_task(creator.ask())
        while not creator.calls:
            await asyncio.sleep(0.01)
        # It stood still for longer than anybody waits, and then goes on.
        await asyncio.to_thread(age, creator.database, ABANDONED * 2)
        hold, creator.hold = creator.hold, None
        second = await creator.ask()
        assert (second.body["name"], second.replayed) == ("route-2", False)
        creator.calls = 3
        hold.set()
        with pytest.raises(Conflict):
            await first
        assert (await creator.ask()).body == second.body

    asyncio.run(overtake())
    with creator.database.read() as session:
        assert [route.name for route in session.exec(select(Route)).all()] == ["route-2"]


def test_answers_are_kept_for_a_day(creator: Creator) -> None:
    asyncio.run(creator.ask())
    age(creator.database, KEPT - timedelta(minutes=1))
    assert asyncio.run(creator.ask()).replayed
    age(creator.database, timedelta(minutes=2))
    assert not asyncio.run(creator.ask(body="other")).replayed


def test_secrets_are_not_kept(creator: Creator) -> None:
    assert asyncio.run(creator.ask(withheld="secret")).body["secret"] == "s"
    assert asyncio.run(creator.ask(withheld="secret")).body["secret"] is None
    with creator.database.read() as session:
        row = session.exec(select(IdempotentRequest)).one()
    assert row.body == {"name": "route-1", "secret": None}
    assert row.created_at <= now()


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\nb", "\x00"])
def test_odd_keys_are_refused(creator: Creator, key: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asyncio.run(creator.ask(key))
    assert isinstance(refused.value, GenPlatError)
    assert creator.calls == 0
