"""The one stream against a real Valkey: order, survival, and what is no event."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from shared import event_stream
from shared.run_events import Beat, Logged, RunEvent
from tests.valkey import Valkey, running_valkey


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


def event(seq: int, message: str | None = None) -> RunEvent:
    payload = Beat() if message is None else Logged(message=message)
    return RunEvent(run_id="run_a", attempt=1, seq=seq, time=datetime.now(UTC), payload=payload)


def test_events_come_in_order_from_any_place(valkey: Valkey) -> None:
    async def scenario() -> None:
        async with Redis.from_url(valkey.url) as redis:
            await redis.flushall()
            sent = [event(seq, f"ünï {seq}") for seq in range(1, 6)]
            ids = [await event_stream.publish(redis, one) for one in sent]
            read = await event_stream.read(redis)
            assert [found for _, found in read] == sent
            assert [stream_id for stream_id, _ in read] == ids
            rest = await event_stream.read(redis, after=ids[2])
            assert [found for _, found in rest] == sent[3:]
            assert await event_stream.read(redis, after=ids[-1], block_ms=10) == []
            assert await event_stream.holds(redis, ids[0])
            await redis.flushall()
            assert not await event_stream.holds(redis, ids[0])

    asyncio.run(scenario())


def test_what_is_no_event_is_stepped_over(valkey: Valkey) -> None:
    async def scenario() -> None:
        async with Redis.from_url(valkey.url) as redis:
            await redis.flushall()
            for fields in (
                {"event": "{"},
                {"event": '{"run_id": "a"}'},
                {"other": "x"},
                {"event": "x" * (event_stream.MAX_EVENT_BYTES + 1)},
            ):
                await redis.xadd(event_stream.STREAM, fields)  # type: ignore[arg-type]
            await event_stream.publish(redis, event(1))
            found = [one for _, one in await event_stream.read(redis)]
            assert found[:4] == [None] * 4 and found[4] is not None

    asyncio.run(scenario())
