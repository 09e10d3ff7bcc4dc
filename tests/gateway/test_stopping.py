"""What becomes of waits when the gateway stops."""

import asyncio

import pytest

from gateway.stopping import Stopping
from shared.errors import Unavailable
from tests.gateway.parts import asynchronous


@asynchronous
async def test_waits_are_broken_off_now_and_later() -> None:
    stopping = Stopping()
    asyncio.get_running_loop().call_later(0.05, stopping.begin)
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            async with asyncio.timeout(2), stopping.breaks_off():
                await asyncio.Event().wait()
        assert (caught.value.code, caught.value.retry_after) == ("stopping", 5)


@asynchronous
async def test_what_ends_by_itself_is_left_alone() -> None:
    stopping = Stopping()
    async with stopping.breaks_off():
        await asyncio.sleep(0)
    stopping.begin()
    with pytest.raises(TimeoutError):
        async with Stopping().breaks_off():
            raise TimeoutError
