"""Some at once; and `cancel_until_done`, with a task that does what redis-py sometimes does."""

import asyncio
import contextlib

import pytest

from shared.tasks import cancel_until_done, each


async def swallow(times: int) -> None:
    for _ in range(times):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
    await asyncio.sleep(60)


async def fail() -> None:
    raise RuntimeError("boom")


def test_a_swallowed_cancellation_is_repeated() -> None:
    async def scenario() -> list[bool]:
        tasks = [asyncio.create_task(swallow(times)) for times in (0, 1, 2)]
        await asyncio.sleep(0.01)
        await asyncio.wait_for(cancel_until_done(tasks), timeout=10)
        return [task.cancelled() for task in tasks]

    assert asyncio.run(scenario()) == [True, True, True]


def test_the_failure_of_a_task_does_not_come_through() -> None:
    async def scenario() -> bool:
        task = asyncio.create_task(fail())
        await asyncio.sleep(0.01)
        await cancel_until_done([task])
        return isinstance(task.exception(), RuntimeError)

    assert asyncio.run(scenario())


def test_so_many_are_done_at_once_and_the_first_trouble_ends_the_others() -> None:
    under_way, most, done = 0, 0, []

    async def do(item: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            await asyncio.sleep(0.01)
            if item == 7:
                raise ValueError("seven")
            done.append(item)
        finally:
            under_way -= 1

    asyncio.run(each(range(7), do, at_once=3))
    assert (done, most) == (list(range(7)), 3)
    with pytest.raises(ValueError, match="seven"):
        asyncio.run(each(range(7, 100), do, at_once=3))
    assert under_way == 0
    assert len(done) < 20
