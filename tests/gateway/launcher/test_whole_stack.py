"""`genplat up` with the real services: one start, a crash, one stop."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.launcher.lock import LOCK_FILE
from gateway.launcher.processes import descendants
from tests.gateway.launcher.test_supervisor import alive, eventually

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


class RunningStack:
    """The process and what it printed so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "up", "--no-browser", "--port", "0",
             "--data-dir", str(folder)],
            env={**os.environ, "GENPLAT_PREPARE_BUNDLED_MODEL": "false"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.lines.extend(lines)

    def printed(self, pattern: str, seconds: float = 120) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        while True:
            if found := re.search(pattern, "".join(self.lines)):
                return found
            assert time.monotonic() < deadline, "".join(self.lines)
            assert self.process.poll() is None, "".join(self.lines)
            time.sleep(0.1)

    def service(self, name: str) -> int:
        """The process id of a service, by its module."""
        for process_id, _ in descendants([self.process.pid]):
            command = Path(f"/proc/{process_id}/cmdline").read_bytes()
            if f"\0{name}\0".encode() in command:
                return process_id
        raise AssertionError(f"{name} does not run")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    stack = RunningStack(tmp_path_factory.mktemp("stack") / "data")
    yield stack
    if stack.process.poll() is None:
        stack.process.kill()
    stack.process.wait()


@pytest.fixture(scope="module")
def link(stack: RunningStack) -> str:
    return stack.printed(r"http://127\.0\.0\.1:\d+/login\?token=[\w-]{43}")[0]


def answers(url: str) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            return httpx.get(f"{url}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    return ask


def environment_of(process_id: int) -> dict[str, str]:
    lines = Path(f"/proc/{process_id}/environ").read_text().split("\0")
    return dict(line.split("=", 1) for line in lines if line)


def test_the_link_logs_in(link: str) -> None:
    answer = httpx.get(link)
    assert answer.status_code == 303
    assert "genplat_session" in answer.cookies
    assert httpx.get(link.partition("/login")[0] + "/api/runs").status_code == 401


def test_the_gateway_sees_the_worker_that_listens(stack: RunningStack, link: str) -> None:
    def seen() -> bool:
        with closing(sqlite3.connect(stack.folder / "genplat.db")) as database:
            rows = database.execute("select reachable, workers from queue_sights").fetchall()
        return rows == [(1, 1)]

    eventually(seen, 60)
    assert seen()


def test_the_log_names_the_services_and_keeps_the_token_to_itself(
    stack: RunningStack, link: str
) -> None:
    text = (stack.folder / "logs" / "genplat.log").read_text()
    for name in ("valkey", "gateway", "trainer", "inference"):
        assert f"\n{name:<9} | " in "\n" + text
    assert link.partition("token=")[2] not in text
    assert "diagrams" not in text  # no warning: they are drawn


def test_a_second_stack_on_the_folder_is_refused(stack: RunningStack, link: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "up", "--data-dir", str(stack.folder)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.returncode == 2
    assert link.partition("/login")[0] in result.stderr


def test_a_service_that_is_killed_comes_back(stack: RunningStack, link: str) -> None:
    url = link.partition("/login")[0]
    before = stack.service("gateway.app")
    os.kill(before, signal.SIGKILL)
    stack.printed(r"gateway was ended by SIGKILL; again in 1 s")
    eventually(answers(url), 60)
    assert stack.service("gateway.app") != before


def test_no_secret_is_readable_by_others(stack: RunningStack, link: str) -> None:
    assert stack.folder.stat().st_mode & 0o777 == 0o700
    assert (stack.folder / LOCK_FILE).stat().st_mode & 0o777 == 0o600
    noted = json.loads((stack.folder / LOCK_FILE).read_text())
    given = environment_of(stack.service("trainer_service.app"))
    secrets = {
        "login": link.partition("token=")[2],
        "internal": given["GENPLAT_INTERNAL_TOKEN"],
        "queue": urlsplit(given["GENPLAT_REDIS_URL"]).password or "",
        "queue's administrator": urlsplit(noted["queue_admin_url"]).password or "",
    }
    assert len({secret for secret in secrets.values() if len(secret) >= 43}) == len(secrets)
    family = descendants([stack.process.pid])
    assert len(family) >= 4
    for process_id in (stack.process.pid, *(process_id for process_id, _ in family)):
        command = Path(f"/proc/{process_id}/cmdline").read_bytes()
        assert command
        assert not [name for name, secret in secrets.items() if secret.encode() in command]


def test_one_interrupt_ends_everything_within_ten_seconds(stack: RunningStack, link: str) -> None:
    assert link
    family = descendants([stack.process.pid])
    assert len(family) >= 4
    begun = time.monotonic()
    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(20) == 0
    assert time.monotonic() - begun < 10
    # (One that was killed may be a zombie until its new parent collects it.)
    assert not [process_id for process_id, _ in family if alive(process_id)]
    assert "Traceback" not in "".join(stack.lines)
