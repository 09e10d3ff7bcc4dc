"""A stream hears of its end once, whoever stops reading it and when."""

import asyncio
from collections.abc import AsyncGenerator, MutableMapping
from typing import Any

import pytest

from gateway.api.streaming import EventStream
from gateway.closing import Stream
from tests.gateway.parts import asynchronous


class Counted:
    """A stream of three pieces that counts how often it ended."""

    def __init__(self, *, fails: bool = False) -> None:
        self.ends, self.fails = 0, fails
        self.stream = Stream(self.chunks(), self.end)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for piece in (b"a", b"b", b"c"):
            yield piece
        if self.fails:
            raise ValueError("no")

    async def end(self) -> None:
        self.ends += 1


@asynchronous
async def test_it_ends_once() -> None:
    whole, part, never = Counted(), Counted(), Counted()
    assert [piece async for piece in whole.stream] == [b"a", b"b", b"c"]
    assert whole.ends == 1
    assert await anext(part.stream) == b"a" and part.ends == 0
    for counted in (whole, part, never):
        await counted.stream.aclose()
        await counted.stream.aclose()
        assert counted.ends == 1
    with pytest.raises(StopAsyncIteration):
        await anext(part.stream)


@asynchronous
async def test_it_ends_where_it_fails() -> None:
    failing = Counted(fails=True)
    with pytest.raises(ValueError, match="no"):
        [piece async for piece in failing.stream]
    assert failing.ends == 1


@asynchronous
async def test_a_reader_that_is_gone_before_it_begins_ends_it() -> None:
    counted = Counted()

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        await asyncio.sleep(60)

    scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
    await EventStream(counted.stream, {})(scope, receive, send)
    assert counted.ends == 1
