"""Asyncio tasks: some at once, and ending them for certain. Knows nothing of what they do."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")

RETRY_SECONDS = 0.5


async def cancel_until_done(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel ``tasks`` and wait for their end, whatever it is; no exception comes through.

    One cancellation may not be enough: `asyncio.wait_for` of Python 3.11, by which redis-py
    sends, returns as if nothing had happened where a cancellation comes together with its result.
    """
    every = set(tasks)
    waiting = {task for task in every if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=RETRY_SECONDS)
    await asyncio.gather(*every, return_exceptions=True)


async def each(
    items: Iterable[Item], do: Callable[[Item], Awaitable[None]], *, at_once: int
) -> None:
    """Do so many at once; the first trouble ends the others, and comes through as itself."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await do(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
