"""Breaks off what waits when the gateway is being stopped; knows no server and no HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.errors import Unavailable

RETRY_SECONDS = 5.0


class Stopping:
    """Held by whoever waits for others; told by the server. All on one event loop."""

    def __init__(self) -> None:
        self._begun = False
        self._waits: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """Break off all waits, those that are still to come as well."""
        self._begun = True
        for wait in self._waits:
            wait.reschedule(0)

    @asynccontextmanager
    async def breaks_off(self) -> AsyncIterator[None]:
        """A wait that ends in `Unavailable` as soon as the gateway is stopped."""
        wait = asyncio.timeout(0 if self._begun else None)
        try:
            async with wait:
                self._waits.add(wait)
                try:
                    yield
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if not wait.expired():
                raise
            raise Unavailable(
                "GenPlat is being stopped or started again. Ask again in a moment.",
                code="stopping",
                retry_after=RETRY_SECONDS,
            ) from None
