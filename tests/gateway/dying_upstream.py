"""A service LLM for tests that speaks OpenAI's wire by hand, and fails as it is told to."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "the-upstreams-own-key"
WORDS = [
    "Once",
    " upon",
    " a time",
    ", ünïcode",
    " \U0001f600",
    " and",
    "\n\ndata: [DONE]\n\n",
    " so on.",
]


@dataclass
class DyingUpstream:
    """``cut_at``: bytes of a stream after which the connection is closed. ``status``: answers
    that alone. ``silent_at``: as ``cut_at``, but the connection stays open."""

    words: list[str] = field(default_factory=lambda: list(WORDS))
    cut_at: int | None = None
    silent_at: int | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    without_done: bool = False
    error_event: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""

    @property
    def text(self) -> str:
        return "".join(self.words)

    def stream(self) -> bytes:
        """What a whole answer is on the wire."""
        parts = [_event({"role": "assistant", "content": ""})]
        parts += [_event({"content": word}) for word in self.words]
        if self.error_event:
            parts.append(b'data: {"error": {"message": "overloaded", "code": 529}}\n\n')
            return b"".join(parts)
        parts.append(_event({}, "stop"))
        return b"".join(parts) + (b"" if self.without_done else b"data: [DONE]\n\n")


def _event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "chatcmpl-up", "object": "chat.completion.chunk", "created": 1, "model": "large"}
    return b"data: " + json.dumps(body | {"choices": [choice]}).encode() + b"\n\n"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: DyingUpstream

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        told = self.upstream
        told.asked.append(body | {"path": self.path})
        told.keys.append(self.headers.get("authorization"))
        if told.status is not None:
            return self._whole(told.status, {"error": {"message": "no", "code": "c"}})
        if not body.get("stream"):
            message = {"role": "assistant", "content": told.text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
            whole = {"id": "x", "model": "large", "choices": [choice], "usage": usage}
            return self._whole(200, whole)
        return self._stream(told)

    def _whole(self, status: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        for name, value in self.upstream.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, told: DyingUpstream) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        raw = told.stream()
        end = min(
            len(raw), *(at for at in (told.cut_at, told.silent_at, len(raw)) if at is not None)
        )
        # Sizes that no event has: pieces end anywhere.
        for place in range(0, end, 37):
            piece = raw[place : min(place + 37, end)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        if told.silent_at is not None:
            time.sleep(3)
        if end == len(raw):
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def dying_upstream() -> Iterator[DyingUpstream]:
    told = DyingUpstream()
    handler = type("Handler", (_Handler,), {"upstream": told})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    told.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
