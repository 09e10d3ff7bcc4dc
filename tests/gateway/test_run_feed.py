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
        feed.notify("run_a")
        feed.notify("run_unknown")
        async with asyncio.timeout(1):
            await anext(mine)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(other)


def test_an_owner_holds_so_many_streams_and_no_more() -> None:
    feed = RunFeed()
    with feed.stream_slot(owner="a", limit=1):
        with pytest.raises(TooManyRequests), feed.stream_slot(owner="a", limit=1):
            pass
        with feed.stream_slot(owner="b", limit=1):
            pass
    with feed.stream_slot(owner="a", limit=1):
        pass
