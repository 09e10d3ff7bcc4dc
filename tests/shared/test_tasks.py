"""`cancel_until_done`, with a task that does what redis-py under Python 3.11 sometimes does."""

import asyncio
import contextlib

from shared.tasks import cancel_until_done


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
