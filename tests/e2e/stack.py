"""The whole platform for a browser test: `genplat up` on a free port, with a tiny base model."""

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from shared.storage import Storage
from tests.trainer_service.tiny import TINY_MODEL, prepare_tiny_model
from tests.valkey import free_port

START_SECONDS = 120
ADMIN_KEY = "gp-the-administrators-key-of-the-browser-test"
LINK = re.compile(r"http://\S+/login\?token=\S+")


@dataclass(frozen=True)
class RunningStack:
    login_url: str
    process_id: int

    @property
    def url(self) -> str:
        parts = urlsplit(self.login_url)
        return f"{parts.scheme}://{parts.netloc}"


@contextlib.contextmanager
def running_stack(folder: Path, **settings: str) -> Iterator[RunningStack]:
    """Started as a user starts it. SIGTERM ends it: a shell in the background ignores Ctrl-C."""
    prepare_tiny_model(Storage(folder), hidden_size=64, intermediate_size=128)
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "up", "--no-browser"],
        env=os.environ
        | {
            "GENPLAT_DATA_DIR": str(folder),
            "GENPLAT_PORT": str(free_port()),
            "GENPLAT_PREPARE_BUNDLED_MODEL": "false",
            "GENPLAT_ADMIN_KEY": ADMIN_KEY,
        }
        | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        stack = RunningStack(_login_link(process), process.pid)
        _add_to_library(stack.url)
        yield stack
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _login_link(process: subprocess.Popen[str]) -> str:
    """The printed link. The output is read to its end, so that the platform never waits for it."""
    links: queue.Queue[str] = queue.Queue()
    said: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                said.append(line)
                if found := LINK.search(line):
                    links.put(found[0])

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(queue.Empty):
            return links.get(timeout=0.2)
    raise AssertionError("genplat up printed no link:\n" + "".join(said))


def _add_to_library(url: str) -> None:
    answer = httpx.post(
        f"{url}/api/library",
        json={"id": TINY_MODEL, "name": "Tiny"},
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
    )
    answer.raise_for_status()
