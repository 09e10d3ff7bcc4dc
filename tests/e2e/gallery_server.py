"""The gallery's pages over HTTP, under the policy that the gateway sends."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gateway.limits import CSP
from tests.ui.gallery import pages
from ui.rendering import STATIC

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
DRAWING = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="300" height="120">'
    b'<rect x="20" y="20" width="90" height="40" fill="#e2e2f0" stroke="#181818"/></svg>'
)


@contextmanager
def gallery_server() -> Iterator[tuple[str, list[str]]]:
    """The address and the names of the pages."""
    shown = pages()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0].lstrip("/")
            if path.startswith("static/"):
                file = STATIC / path.removeprefix("static/")
                self._send(TYPES[file.suffix], file.read_bytes())
            elif path.startswith("api/diagrams/") or path.endswith(".svg"):
                self._send("image/svg+xml", DRAWING)
            elif path.endswith("/panel"):
                self._send("text/event-stream", b"event: done\ndata: \n\n")
            else:
                self._send("text/html; charset=utf-8", shown[path].encode())

        def _send(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Security-Policy", CSP)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", list(shown)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
