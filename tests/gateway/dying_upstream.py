"""A service LLM for tests that speaks OpenAI's wire by hand, and fails as it is told to."""

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
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
    that alone, ``times`` often if that is set. ``silent_at``: as ``cut_at``, but the connection
    stays open, and ``comments`` come. ``resets``: it is not closed but reset. ``slow``: seconds
    before an answer. ``junk``: comes in place of the rest, after which the stream ends as if
    nothing were wrong."""

    words: list[str] = field(default_factory=lambda: list(WORDS))
    cut_at: int | None = None
    silent_at: int | None = None
    comments: bool = False
    resets: bool = False
    junk: bytes = b""
    status: int | None = None
    times: int | None = None
    slow: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    without_done: bool = False
    error_event: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    request_ids: list[str | None] = field(default_factory=list)
    log_headers: list[str | None] = field(default_factory=list)
    url: str = ""

    @property
    def text(self) -> str:
        return "".join(self.words)

    def stream(self, asked: Mapping[str, Any] | None = None) -> bytes:
        """What a whole answer is on the wire; to a chat, unless another request is given."""
        asked = asked or {"messages": []}
        told = _text_event if "prompt" in asked else _event
        parts = [] if "prompt" in asked else [_event({"role": "assistant", "content": ""})]
        parts += [told({"content": word}) for word in self.words]
        if self.error_event:
            parts.append(b'data: {"error": {"message": "overloaded", "code": 529}}\n\n')
            return b"".join(parts)
        parts.append(told({}, "stop"))
        if (asked.get("stream_options") or {}).get("include_usage"):
            parts.append(_framed(HEAD | {"choices": [], "usage": USAGE}))
        return b"".join(parts) + (b"" if self.without_done else b"data: [DONE]\n\n")


HEAD = {"id": "chatcmpl-up", "object": "chat.completion.chunk", "created": 1, "model": "large"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}


def _event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return _framed(HEAD | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _text_event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": delta.get("content", ""), "finish_reason": finish}
    return _framed(HEAD | {"object": "text_completion", "choices": [choice]})


def _framed(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: DyingUpstream

    def handle(self) -> None:
        # Who asked may leave at any moment.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        told = self.upstream
        told.asked.append(body | {"path": self.path})
        told.keys.append(self.headers.get("authorization"))
        told.request_ids.append(self.headers.get("x-request-id"))
        told.log_headers.append(self.headers.get("x-genplat-log"))
        time.sleep(told.slow)
        if told.times is not None and told.status is not None:
            told.times -= 1
            if told.times < 0:
                told.status = None
        if told.status is not None:
            return self._whole(told.status, {"error": {"message": "no", "code": "c"}})
        if not body.get("stream"):
            message = {"role": "assistant", "content": told.text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {"id": "x", "model": "large", "choices": [choice], "usage": USAGE}
            return self._whole(200, whole)
        return self._stream(told, told.stream(body))

    def _whole(self, status: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        for name, value in self.upstream.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, told: DyingUpstream, raw: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        places = (told.cut_at, told.silent_at, len(raw))
        end = min(place for place in places if place is not None)
        if told.junk:
            raw, end = raw[:end] + told.junk, end + len(told.junk)
        # Sizes that no event has: pieces end anywhere.
        for place in range(0, end, 37):
            piece = raw[place : min(place + 37, end)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        if told.silent_at is not None:
            self._fall_silent()
        if end == len(raw):
            self.wfile.write(b"0\r\n\r\n")
        if told.resets:
            # With no time to linger: what is not read yet is lost.
            nothing = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, nothing)
        self.close_connection = True

    def _fall_silent(self) -> None:
        """Three seconds, or until the other side has left."""
        until = time.monotonic() + 3
        comment = b": still here\n\n" if self.upstream.comments else b""
        with contextlib.suppress(OSError):
            while time.monotonic() < until:
                if comment:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(comment), comment))
                self.connection.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if not self.connection.recv(1):
                        return

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
