"""The gateway as a process of its own, for tests."""

import os
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.gateway.conftest import ADMIN_KEY, NOBODY
from tests.valkey import Valkey

AUTHORIZED = f"Host: 127.0.0.1\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int
    root: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def send(self, request: str) -> bytes:
        """The head of the answer to these bytes; nothing where the server hangs up without one."""
        head = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            with suppress(ConnectionError):
                connection.sendall(request.encode())
            with suppress(ConnectionError):
                while b"\r\n\r\n" not in head and (data := connection.recv(65_536)):
                    head += data
        return head

    def peak_memory_mib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) // 1024


def environment(root: Path, valkey: Valkey, **settings: str) -> dict[str, str]:
    return (
        dict(os.environ)
        | {
            "GENPLAT_DATA_DIR": str(root),
            "GENPLAT_ADMIN_KEY": ADMIN_KEY,
            "GENPLAT_REDIS_URL": valkey.url,
            "GENPLAT_INFERENCE_URL": NOBODY,
            "GENPLAT_PREPARE_BUNDLED_MODEL": "false",
        }
        | settings
    )


def wait_until_live(server: Server) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{server.url}/livez")
            return
        except httpx.ConnectError:
            assert server.process.poll() is None
            time.sleep(0.05)
    raise AssertionError("the gateway did not start")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
