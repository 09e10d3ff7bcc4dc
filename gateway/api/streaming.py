"""Streamed answers over HTTP."""

from collections.abc import Mapping

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.closing import Stream


class EventStream(StreamingResponse):
    """Events on their way to a reader. They are closed in any case, also where the reader has left
    before the first of them."""

    def __init__(self, events: Stream, headers: Mapping[str, str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()
