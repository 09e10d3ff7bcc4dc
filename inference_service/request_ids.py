"""Takes over the id of each request from the gateway, for the log. A plain ASGI middleware."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared import request_id


class RequestIds:
    """In from the header `x-request-id`, and out again."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name = request_id.begin(Headers(scope=scope).get(request_id.HEADER, ""))

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[request_id.HEADER] = name
            await send(message)

        await self.app(scope, receive, send_named)
