"""Waiting for news of a run, and how many may wait."""

import asyncio

import pytest

from gateway.run_feed import RunFeed
from shared.errors import TooManyRequests
from tests.gateway.parts import asynchronous


@asynchronous
async def test_news_wakes_those_who_wait_for_that_run() -> None:
    feed = RunFeed()
    async with feed.subscribe("run_a") as mine, feed.subscribe("run_b") as other:
        await anext(mine)
        await anext(other)
        feed.notify("run_a")
        feed.notify("run_unknown")
        async with asyncio.timeout(1):
            await anext(mine)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(other)


@asynchronous
async def test_at_the_end_nobody_waits_any_longer() -> None:
    feed = RunFeed()
    async with asyncio.timeout(2), feed.subscribe("run_a") as early:
        await anext(early)
        early.pause = 60
        asyncio.get_running_loop().call_later(0.05, feed.close)
        assert [news async for news in early] == []
        async with feed.subscribe("run_b") as late:
            assert [news async for news in late] == []


def test_an_owner_holds_so_many_streams_and_no_more() -> None:
    feed = RunFeed()
    with feed.stream_slot(owner="a", limit=1):
        with pytest.raises(TooManyRequests), feed.stream_slot(owner="a", limit=1):
            pass
        with feed.stream_slot(owner="b", limit=1):
            pass
    with feed.stream_slot(owner="a", limit=1):
        pass
