"""The web server of the gateway: uvicorn, and how it comes to its end with streams open."""

import asyncio
import contextlib
import socket
import sys

import uvicorn
from starlette.applications import Starlette

from gateway.http_protocol import LimitedHead
from gateway.services import Services

# Answers that are nearly done may end by themselves; then they are broken off, and their readers
# told; what is left after the last of these seconds is cancelled.
ANSWER_SECONDS = 1.0
GRACEFUL_SECONDS = 3


class Server(uvicorn.Server):
    """Uvicorn waits for open responses; those of event streams would never end."""

    def __init__(self, app: Starlette, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        services: Services = self._app.state.services
        services.feed.close()
        asyncio.get_running_loop().call_later(ANSWER_SECONDS, services.stopping.begin)
        await super().shutdown(sockets)


def serve(app: Starlette, *, host: str, port: int) -> None:
    """Serve until a signal comes."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=LimitedHead,
        ws="none",
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        log_config=None,
        access_log=False,
        server_header=False,
        # Addresses in headers are whatever a caller writes there.
        proxy_headers=False,
    )
    server = Server(app, config)
    # Uvicorn raises the signal again when all is closed.
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(1)
