"""What commands ask a platform with: patient where it was there before."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from gateway import client as client_module
from gateway.client import Client, CommandFailed
from tests.valkey import free_port


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


def answering(port: int, times: int) -> threading.Thread:
    """So many answers, then nobody is there."""
    server = HTTPServer(("127.0.0.1", port), Answers)

    def serve() -> None:
        for _ in range(times):
            server.handle_request()
        server.server_close()

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_who_is_away_for_a_moment_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_POLL_SECONDS", 0.05)
    port = free_port()
    first = answering(port, 1)
    client = Client(f"http://127.0.0.1:{port}", "gp-x")
    try:
        assert client.ask("GET", "/") == {}
        first.join()
        later = threading.Timer(0.3, lambda: answering(port, 1).join())
        later.start()
        assert client.ask("GET", "/") == {}
        later.join()
        # What changes something is not sent twice.
        with pytest.raises(CommandFailed, match="got no answer"):
            client.ask("POST", "/", json={})
        monkeypatch.setattr(client_module, "_AWAY_TRIES", 2)
        with pytest.raises(CommandFailed, match="got no answer"):
            client.ask("GET", "/")
    finally:
        client.close()


def test_who_was_never_there_is_not_waited_for() -> None:
    client = Client(f"http://127.0.0.1:{free_port()}", "gp-x")
    try:
        with pytest.raises(CommandFailed, match="got no answer"):
            client.ask("GET", "/")
    finally:
        client.close()
