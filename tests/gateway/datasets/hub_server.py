"""A small server with the shapes of the Hugging Face hub, as huggingface_hub 2.4 asks and reads
them (hf_api.py `dataset_info`, file_download.py, utils/_http.py `hf_raise_for_status`):

- GET /api/datasets/{repo}/revision/{revision} -> {"id", "sha", "siblings": [{"rfilename"}]}
- GET /datasets/{repo}/resolve/{revision}/{path} -> the bytes, or 302 to another host
- errors are told by the header X-Error-Code: RepoNotFound (401 for those who are not known),
  RevisionNotFound (404), GatedRepo (401 or 403), EntryNotFound (404)

And for uploads (hf_api.py `create_repo`, `file_exists`, `create_commit`; _commit_api.py
`_fetch_upload_modes`, `_send_commit`; lfs.py `post_lfs_batch_info`, `lfs_upload`; the API's own
description: huggingface.co/docs/hub/api):

- POST /api/repos/create {"type", "name", "organization", "visibility"} -> {"url", "id"}; 409 where
  it is there
- HEAD /datasets/{repo}/resolve/{revision}/{path} -> 200 with ETag and X-Repo-Commit
- POST /api/validate-yaml {"content", "repoType"} -> {"errors": [], "warnings": []}
- POST /api/datasets/{repo}/preupload/{revision} {"files": [{"path", "sample", "size"}]} ->
  {"files": [{"path", "uploadMode": "regular" or "lfs", "shouldIgnore"}]}
- POST /datasets/{repo}.git/info/lfs/objects/batch (git-lfs' batch API) -> where to PUT each object
- POST /api/datasets/{repo}/commit/{revision}, a JSON object a line: a header, then "file" with its
  content in base64, or "lfsFile" with the sha256 of what was PUT -> {"commitUrl", "commitOid"}
"""

import base64
import hashlib
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
    (path, Authorization). ``refusals``: with what POSTs to a part of a path are answered first."""

    repos: dict[str, dict[str, bytes]]
    gated: frozenset[str] = frozenset()
    token: str = "hf_good"
    seen: list[tuple[str, str]] = field(default_factory=list)
    # What was made: the bodies of creations, each commit's message, and objects by their sha256.
    made: list[dict[str, str]] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    refusals: dict[str, list[int]] = field(default_factory=dict)
    url: str = ""

    def refusal(self, path: str) -> int | None:
        waiting = next((found for part, found in self.refusals.items() if part in path), None)
        return waiting.pop(0) if waiting else None


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
        revision = (parts[5] if len(parts) > 5 else "main") if listing else parts[4]
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

    def do_HEAD(self) -> None:
        parts = [unquote(part) for part in self.path.strip("/").split("/")]
        held = self.hub.repos.get("/".join(parts[1:3]), {})
        if "/".join(parts[5:]) in held:
            self._send(200, headers={"ETag": '"e"', "X-Repo-Commit": SHA})
        else:
            self._send(404, code="EntryNotFound")

    def do_PUT(self) -> None:
        content = self._body()
        assert hashlib.sha256(content).hexdigest() == self.path.rpartition("/")[2]
        self.hub.objects[self.path.rpartition("/")[2]] = content
        self._send(200)

    def do_POST(self) -> None:
        token, body = self.headers.get("Authorization", ""), self._body()
        self.hub.seen.append((self.path, token))
        path = self.path.partition("?")[0]
        if token != f"Bearer {self.hub.token}":
            self._send(401, b'{"error": "Invalid credentials"}')
        elif (status := self.hub.refusal(path)) is not None:
            self._send(status, b'{"error": "Not now"}')
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif path.endswith("/info/lfs/objects/batch"):
            self._answer({"transfer": "basic", "objects": self._places(json.loads(body))})
        elif "/preupload/" in path:
            self._answer({"files": [_mode(file["path"]) for file in json.loads(body)["files"]]})
        elif "/commit/" in path:
            self._commit("/".join(path.split("/")[3:5]), body)
        else:
            self._send(404)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _create(self, wanted: dict[str, str]) -> None:
        repo = f"{wanted['organization']}/{wanted['name']}"
        url = f"{self.hub.url}/datasets/{repo}"
        if repo in self.hub.repos:
            self._answer({"error": "You already created this dataset repo", "url": url}, 409)
            return
        self.hub.made.append(wanted)
        self.hub.repos[repo] = {}
        self._answer({"url": url, "id": repo, "name": repo})

    def _places(self, asked: dict[str, list[dict[str, str]]]) -> list[dict[str, object]]:
        return [
            wanted | {"actions": {"upload": {"href": f"{self.storage}/blobs/{wanted['oid']}"}}}
            for wanted in asked["objects"]
        ]

    def _commit(self, repo: str, body: bytes) -> None:
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                self.hub.commits.append(value["summary"])
            elif item["key"] == "file":
                self.hub.repos[repo][value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                self.hub.repos[repo][value["path"]] = self.hub.objects[value["oid"]]
        url = f"{self.hub.url}/datasets/{repo}/commit/{SHA}"
        self._answer({"success": True, "commitOid": SHA, "commitUrl": url, "hookOutput": ""})

    def _answer(self, content: dict[str, object], status: int = 200) -> None:
        self._send(status, json.dumps(content).encode())

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

    def _send(
        self,
        status: int,
        body: bytes = b"",
        code: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


def _mode(path: str) -> dict[str, object]:
    """As the hub decides by .gitattributes: large kinds of files go beside git."""
    mode = "lfs" if path.endswith(".parquet") else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False}
