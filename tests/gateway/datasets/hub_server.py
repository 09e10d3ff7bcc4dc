"""A small server with the shapes of the Hugging Face hub, as huggingface_hub 2.4 asks and reads
them (hf_api.py `dataset_info`, file_download.py, utils/_http.py `hf_raise_for_status`):

- GET /api/datasets/{repo}/revision/{revision} -> {"id", "sha", "siblings": [{"rfilename"}]}
- GET /datasets/{repo}/resolve/{revision}/{path} -> the bytes, or 302 to another host
- errors are told by the header X-Error-Code: RepoNotFound (401 for those who are not known),
  RevisionNotFound (404), GatedRepo (401 or 403), EntryNotFound (404)
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

SHA = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """``repos``: the files of each; ``gated`` ones want the token. ``seen`` are the requests as
    (path, Authorization)."""

    repos: dict[str, dict[str, bytes]]
    gated: frozenset[str] = frozenset()
    token: str = "hf_good"
    seen: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def running_hub(hub: Hub) -> Iterator[Hub]:
    with _server(hub) as main, _server(hub) as storage:
        hub.url = main
        Handler.storage = storage.replace("127.0.0.1", "localhost")
        yield hub


@contextmanager
def _server(hub: Hub) -> Iterator[str]:
    class Bound(Handler):
        pass

    Bound.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    # Large files come from another host, to which no token is sent.
    storage = ""

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "")
        path = self.path.partition("?")[0]
        self.hub.seen.append((self.path, token))
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[0] == "blobs":
            self._send(200, self.hub.repos["/".join(parts[1:3])]["/".join(parts[3:])])
            return
        listing = parts[0] == "api"
        repo = "/".join(parts[2:4] if listing else parts[1:3])
        revision = parts[5] if listing else parts[4]
        if repo not in self.hub.repos:
            self._send(401, code="RepoNotFound")
        elif repo in self.hub.gated and token != f"Bearer {self.hub.token}":
            self._send(401, code="GatedRepo")
        elif revision not in ("main", "refs/convert/parquet", SHA):
            self._send(404, code="RevisionNotFound")
        elif listing:
            names = [{"rfilename": name} for name in self.hub.repos[repo]]
            self._send(200, json.dumps({"id": repo, "sha": SHA, "siblings": names}).encode())
        else:
            self._file(repo, "/".join(parts[5:]))

    def _file(self, repo: str, name: str) -> None:
        if name not in self.hub.repos[repo]:
            self._send(404, code="EntryNotFound")
        elif name.endswith(".parquet"):
            self.send_response(302)
            self.send_header("Location", f"{self.storage}/blobs/{repo}/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._send(200, self.hub.repos[repo][name])

    def _send(self, status: int, body: bytes = b"", code: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""
