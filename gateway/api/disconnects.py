"""Ends work whose reader has left, or whose gateway is being stopped. A stream notices both by
itself; a whole answer has to be told."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from gateway.services import Services
from shared.errors import GenPlatError

Result = TypeVar("Result")


class ClientLeft(GenPlatError):
    """Nobody reads this answer; its status is for the log (nginx's number for the same)."""

    status, code, type = 499, "client_closed_request", "invalid_request_error"


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of ``work``, which is cancelled as soon as the client closes its connection."""
    services: Services = request.app.state.services
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request))
    try:
        async with services.stopping.breaks_off():
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientLeft("The client has closed the connection.")
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
