"""A small stand-in for the platform behind its public API, as the demo meets it; no test."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gateway.bundled_examples import held_out
from gateway.demo import DEPLOYMENT
from shared.runs import FineTuneSpec

RUN = {
    "id": "run_1",
    "status": "succeeded",
    "step": 4,
    "total_steps": 4,
    "loss": 0.5,
    "train_seconds": 61.4,
    "tokens_per_second": 140.2,
    "fine_tuned_model": "ft:base:genplat:demo:abcdefgh",
    "error": None,
}
FIRST = """id: 1-1
event: state
data: {"status": "running", "phase": "training"}

"""
SECOND = """id: 1-2
event: metrics
data: {"step": 2, "total_steps": 4, "loss": 1.25, "tokens_per_second": 139.6, "eta_seconds": 65}

"""
THIRD = """id: 1-3
event: state
data: {"status": "succeeded"}

"""
EVENTS = FIRST + ": ping\n\n" + SECOND + THIRD


class FakePlatform(BaseHTTPRequestHandler):
    """Answers as the design says; the tuned model draws what the references draw."""

    answers: dict[str, str]
    asked: list[tuple[str, str]]
    secrets: set[str]
    busy: Counter[str]
    run: dict[str, Any]
    runs: list[dict[str, Any]]
    # The model that is deployed under the demo's name.
    deployed: str | None
    # What each reader of events gets: all but the last of these break off.
    streams: list[str]
    last_event_ids: list[str | None]
    # Called while the run trains.
    while_training: Callable[[], object]

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_GET

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.asked.append((self.command, self.path))
        scheme, _, secret = self.headers["authorization"].partition(" ")
        if scheme != "Bearer" or not secret.startswith("gp-"):
            return self._send(401, {"error": {"message": "no key"}})
        self.secrets.add(secret)
        match self.command, self.path.split("/")[2:]:
            case "GET", ["library", *_]:
                self._send(200, {"state": "ready"})
            case "POST", ["datasets"]:
                assert b'"completion"' in body
                self._send(201, {"id": "ds_1", "rows": 216})
            case _, ["runs", *rest]:
                self._runs(rest, body)
            case _, ["runs?limit=100"]:
                self._send(200, {"data": self.runs})
            case "POST", ["diagrams"]:
                self._draw(json.loads(body))
            case "GET", ["diagrams", name]:
                self._send(200, name.encode(), "image/*")
            case method, ["deployments", *name]:
                self._deployments(method, name, body)

    def _runs(self, rest: list[str], body: bytes) -> None:
        if rest[1:] == ["events"]:
            return self._stream()
        if not rest:
            FineTuneSpec.model_validate_json(body)
        return self._send(200 if rest else 202, self.run)

    def _stream(self) -> None:
        self.last_event_ids.append(self.headers["last-event-id"])
        type(self).while_training()
        place = min(len(self.last_event_ids), len(self.streams)) - 1
        missing = 0 if place == len(self.streams) - 1 else 100
        self._send(200, self.streams[place].encode(), "text/event-stream", missing=missing)

    def _draw(self, request: dict[str, Any]) -> None:
        if not self.busy[request["scenario"]]:
            self.busy[request["scenario"]] += 1
            return self._send(503, {"error": {"message": "queue full"}}, retry_after="0")
        tuned = request["model"] == DEPLOYMENT
        source = self.answers[request["scenario"]] if tuned else "I cannot draw."
        diagram = {"id": "dg_1", "source": source, "rendered": tuned}
        return self._send(200 if tuned else 422, diagram)

    def _deployments(self, method: str, name: list[str], body: bytes) -> None:
        platform = type(self)
        if method == "POST":
            asked = json.loads(body)
            if platform.deployed is not None:
                return self._send(409, {"error": {"message": "there is one of this name"}})
            assert asked.keys() == {"name", "model"} and asked["name"] == DEPLOYMENT
            platform.deployed = asked["model"]
            return self._send(202, {"name": DEPLOYMENT, "state": "loading"})
        if name != [DEPLOYMENT] or platform.deployed is None:
            return self._send(404, {"error": {"message": "no such deployment"}})
        if method == "DELETE":
            platform.deployed = None
        return self._send(200, {"name": DEPLOYMENT, "state": "ready"})

    def _send(
        self,
        status: int,
        answer: Any,
        kind: str = "application/json",
        retry_after: str = "",
        missing: int = 0,
    ) -> None:
        """``missing``: so many bytes are promised that never come."""
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content) + missing))
        if retry_after:
            self.send_header("retry-after", retry_after)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr."""


@contextmanager
def running_platform() -> Iterator[tuple[str, type[FakePlatform]]]:
    """Its address, and what may be looked at and changed."""

    class Handler(FakePlatform):
        pass

    Handler.answers = {example.scenario: example.reference for example in held_out(32)}
    Handler.asked, Handler.secrets, Handler.busy = [], set(), Counter()
    Handler.run, Handler.runs, Handler.deployed = RUN, [], None
    Handler.streams, Handler.last_event_ids = [EVENTS], []
    Handler.while_training = staticmethod(lambda: None)

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", Handler
        server.shutdown()
