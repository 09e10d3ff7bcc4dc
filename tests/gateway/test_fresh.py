"""What is remembered is never older than this process' last write, nor than a second."""

import asyncio
import time

from gateway.database import Database
from gateway.fresh import MOST, SECONDS, Fresh
from gateway.settings import GatewaySettings
from tests.gateway.parts import asynchronous, gateway_services


class Clock:
    now = 10.0

    def __call__(self) -> float:
        return self.now


def counting(database: Database) -> tuple[Fresh[str], Clock, list[str]]:
    clock = Clock()
    return Fresh(database, clock), clock, []


@asynchronous
async def test_a_value_is_read_once_until_something_is_written(settings: GatewaySettings) -> None:
    async with gateway_services(settings) as services:
        fresh, clock, reads = counting(services.database)

        def load() -> str:
            reads.append("read")
            return "value"

        for _ in range(3):
            assert await fresh.get("key", load) == "value"
        assert len(reads) == 1
        with services.database.write():
            pass
        await fresh.get("key", load)
        assert len(reads) == 2
        clock.now += SECONDS
        await fresh.get("key", load)
        assert len(reads) == 3


@asynchronous
async def test_what_is_written_while_it_is_read_makes_it_old(settings: GatewaySettings) -> None:
    async with gateway_services(settings) as services:
        fresh, _, reads = counting(services.database)

        def load() -> str:
            reads.append("read")
            if len(reads) == 1:
                with services.database.write():
                    pass
            return f"value {len(reads)}"

        assert await fresh.get("key", load) == "value 1"
        assert await fresh.get("key", load) == "value 2"


@asynchronous
async def test_nothing_is_not_remembered_and_memory_is_bounded(settings: GatewaySettings) -> None:
    async with gateway_services(settings) as services:
        fresh, _, _ = counting(services.database)
        assert await fresh.get("key", lambda: None) is None
        assert await fresh.get("key", lambda: "there") == "there"
        for number in range(MOST + 10):
            await fresh.get(number, lambda: "x")
        assert len(fresh._kept) == MOST


@asynchronous
async def test_those_who_come_at_once_wait_for_one_reading(settings: GatewaySettings) -> None:
    async with gateway_services(settings) as services:
        fresh, _, reads = counting(services.database)

        def load() -> str:
            reads.append("read")
            time.sleep(0.1)
            return "value"

        first = asyncio.create_task(fresh.get("key", load))
        others = [asyncio.create_task(fresh.get("key", load)) for _ in range(10)]
        await asyncio.sleep(0.02)
        # Whoever leaves takes nothing from the others.
        first.cancel()
        assert await asyncio.gather(*others) == ["value"] * 10
        assert len(reads) == 1


@asynchronous
async def test_who_comes_after_a_write_does_not_wait_for_what_was_read_before(
    settings: GatewaySettings,
) -> None:
    async with gateway_services(settings) as services:
        fresh, _, reads = counting(services.database)

        def load() -> str:
            reads.append("read")
            number = len(reads)
            time.sleep(0.1)
            return f"value {number}"

        before = asyncio.create_task(fresh.get("key", load))
        await asyncio.sleep(0.02)
        with services.database.write():
            pass
        assert await fresh.get("key", load) == "value 2"
        assert await before == "value 1"
        assert await fresh.get("key", load) == "value 2"
