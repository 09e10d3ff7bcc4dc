"""A real inference server on a free port, in a thread of the test's process."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import uvicorn

from inference_service.app import build_app, make_service
from inference_service.settings import InferenceSettings
from shared.storage import Storage

TOKEN = "internal-secret"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@contextlib.contextmanager
def running_server(storage: Storage, **settings: object) -> Iterator[str]:
    """The address of a server over a data folder; gone when the block ends."""
    options = {"data_dir": storage.root, "torch_threads": 1, "unload_grace_seconds": 1, **settings}
    service = make_service(InferenceSettings.model_validate(options))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            build_app(service, internal_token=TOKEN),
            log_config=None,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        try:
            _wait_until_ready(address)
            yield address
        finally:
            server.should_exit = True
            thread.join()


def _wait_until_ready(address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        time.sleep(0.1)
    raise TimeoutError("the inference server did not become ready")
