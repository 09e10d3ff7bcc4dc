"""Ending asyncio tasks for certain; knows nothing of what they do."""

import asyncio
from collections.abc import Iterable
from typing import Any

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
