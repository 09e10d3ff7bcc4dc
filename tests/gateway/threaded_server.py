"""Apps on real servers in threads, for tests."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from tests.gateway.parts import LONG
from tests.valkey import free_port


class ThreadedServer:
    """An app on a real server in a thread. Stopped, it can be started again on its port."""

    def __init__(self, app: FastAPI, *, port: int | None = None) -> None:
        self._app = app
        self._port = port or free_port()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        config = uvicorn.Config(
            self._app,
            host="127.0.0.1",
            port=self._port,
            log_config=None,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + LONG
        while not self._server.started:
            alive = self._thread.is_alive()
            assert alive and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(LONG)
        assert not self._thread.is_alive(), "the server did not come to its end"
        self._server = self._thread = None


@contextmanager
def serving(app: FastAPI, *, port: int | None = None) -> Iterator[str]:
    """The app on a real server in a thread; gives its address."""
    server = ThreadedServer(app, port=port)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
