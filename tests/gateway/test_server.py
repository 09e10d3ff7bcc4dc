"""The gateway as a process of its own: what only a real server and raw bytes can show."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.gateway_process import (
    AUTHORIZED,
    Server,
    environment,
    wait_for,
    wait_until_live,
)
from tests.valkey import Valkey, free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, valkey_server: Valkey) -> Iterator[Server]:
    root, port = tmp_path_factory.mktemp("server") / "data", free_port()
    with (root.parent / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.app", "--port", str(port)],
            env=environment(root, valkey_server),
            stderr=log,
            text=True,
        )
    found = Server(process, port, root)
    try:
        wait_until_live(found)
        yield found
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "request_text",
    [
        f"GET /api/keys HTTP/1.1\r\nAuthorization: Bearer {ADMIN_KEY}\r\n\r\n",
        f"GET /api/keys HTTP/1.1\r\n{AUTHORIZED}Host: evil.test\r\n\r\n",
        f"POST /api/keys HTTP/1.1\r\n{AUTHORIZED}Content-Length: 5\r\n"
        "Content-Length: 6\r\n\r\nhello",
        f"POST /api/keys HTTP/1.1\r\n{AUTHORIZED}Content-Length: 5\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        f"GET /api/keys HTTP/1.1\r\n{AUTHORIZED}X: a\r\n folded\r\nContent-Length : 5\r\n\r\n",
        f"GET /api/keys?after=\x00 HTTP/1.1\r\n{AUTHORIZED}\r\n",
    ],
)
def test_ambiguous_requests_are_refused(server: Server, request_text: str) -> None:
    assert server.send(request_text).startswith(b"HTTP/1.1 400 ")
    assert httpx.get(f"{server.url}/livez").status_code == 200


def test_a_request_without_faults_is_answered(server: Server) -> None:
    """Otherwise the refusals above would say nothing."""
    head = server.send(f"GET /api/keys HTTP/1.1\r\n{AUTHORIZED}\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")


def test_a_head_that_is_too_large_is_refused(server: Server) -> None:
    head = server.send(f"GET /api/keys HTTP/1.1\r\n{AUTHORIZED}X: {'x' * 1_000_000}\r\n\r\n")
    # The server may hang up before its answer can be read.
    assert head == b"" or head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert httpx.get(f"{server.url}/livez").status_code == 200


CHUNKED = f"POST /api/keys HTTP/1.1\r\n{AUTHORIZED}Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (f"GET /livez HTTP/1.1\r\n{AUTHORIZED}X: ", "x" * 1000),
        (f"GET /livez HTTP/1.1\r\n{AUTHORIZED}", "X: x\r\n" * 1000),
        ("GET /livez?", "x" * 1000),
        # Lines behind a chunked body.
        (f"{CHUNKED}1\r\nx\r\n0\r\nX: ", "x" * 1000),
        (f"{CHUNKED}1\r\nx\r\n0\r\n", "X: x\r\n" * 1000),
        (f"{CHUNKED}1;", "x" * 1000),
    ],
)
def test_a_head_that_never_ends_is_hung_up_on(server: Server, begin: str, more: str) -> None:
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(begin.encode())
        with contextlib.suppress(OSError):
            while sent < 20_000_000:
                connection.sendall(more.encode())
                sent += len(more)
    assert sent < 20_000_000
    assert httpx.get(f"{server.url}/livez").status_code == 200


def test_a_head_below_the_limit_is_read_in_pieces(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for piece in (f"GET /livez HTTP/1.1\r\n{AUTHORIZED}X: ", *["x" * 6000] * 10, "\r\n\r\n"):
            connection.sendall(piece.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../rendering.py", "/static/vendor/../../rendering.py",
        "/static/../../gateway/app.py", "/static/./../rendering.py", "/static//../rendering.py",
        "/static/..\\rendering.py", "/../ui/rendering.py", "/static/../static/../rendering.py",
        "/static/../../../../../../../../etc/passwd", "http://127.0.0.1/static/../rendering.py",
    ],
)  # fmt: skip
def test_dots_in_a_path_lead_nowhere_else(server: Server, path: str) -> None:
    """A client library would take them out before they are sent."""
    assert server.send(f"GET {path} HTTP/1.1\r\n{AUTHORIZED}\r\n").startswith(b"HTTP/1.1 404 ")
    there = server.send(f"GET /static/app.css HTTP/1.1\r\n{AUTHORIZED}\r\n")
    assert there.startswith(b"HTTP/1.1 200 ")


def test_an_upload_that_breaks_off_leaves_nothing(server: Server) -> None:
    head = (
        f"POST /api/datasets HTTP/1.1\r\n{AUTHORIZED}Content-Length: 1000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        'Content-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\ntext,target'
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode())
        folder = server.root / "tmp"
        wait_for(lambda: folder.is_dir() and any(folder.iterdir()))
    log = server.root.parent / "log"
    wait_for(lambda: "POST /api/datasets broke off before its end." in log.read_text())
    wait_for(lambda: not any(folder.iterdir()))
    assert "Traceback" not in log.read_text()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_large_upload_takes_little_memory(server: Server) -> None:
    row = b"%d," + b"x" * 4000 + b"\n"

    def form() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nbig\r\n--b\r\n'
        yield b'Content-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\ntext,target\n'
        for start in range(0, 30_000, 250):
            yield b"".join(row % number for number in range(start, start + 250))
        yield b"\r\n--b--\r\n"

    before = server.peak_memory_mib()
    answer = httpx.post(
        f"{server.url}/api/datasets",
        content=form(),
        headers={
            "Authorization": f"Bearer {ADMIN_KEY}",
            "Content-Type": "multipart/form-data; boundary=b",
        },
        timeout=100,
    )
    assert (answer.status_code, answer.json()["rows"]) == (201, 30_000)
    assert answer.json()["bytes"] > 100_000_000
    assert server.peak_memory_mib() - before <= 64


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"GENPLAT_ADMIN_KEY": "short"}, "GENPLAT_ADMIN_KEY is shorter"),
        ({"GENPLAT_DATABASE_URL": "postgresql://x:secret@127.0.0.1:9/x"}, "does not answer"),
        ({"GENPLAT_DATABASE_URL": "x:secret@127.0.0.1:9/x"}, "GENPLAT_DATABASE_URL is no address"),
        ({"GENPLAT_REDIS_URL": "redis://:secret/1@x:9/0"}, "GENPLAT_REDIS_URL is no address"),
        ({"GENPLAT_PORT": "many"}, "GENPLAT_PORT: "),
    ],
)
def test_a_start_that_cannot_be_says_so_in_one_line(
    tmp_path: Path, valkey: Valkey, settings: dict[str, str], said: str
) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "gateway.app", "--port", "0"],
        env=environment(tmp_path / "data", valkey, **settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 1
    assert said in finished.stderr
    assert "Traceback" not in finished.stderr
    assert "secret" not in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1
