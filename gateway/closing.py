"""Streams that end as they should, whoever stops reading them and when. Knows no HTTP."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Self


class Stream:
    """Bytes on their way to a reader, who closes them in any case. A generator alone would not do:
    one of which nothing was read does not hear of its end. ``end`` is called once."""

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], end: Callable[[], Awaitable[None]]
    ) -> None:
        self._chunks, self._end = chunks, end
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        try:
            await self._chunks.aclose()
        finally:
            if not self._ended:
                self._ended = True
                await self._end()
