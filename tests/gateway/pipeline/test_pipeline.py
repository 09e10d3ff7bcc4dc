"""`genplat pipeline` as a person types it, over a live gateway: nothing is done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, chat, live_gateway
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.parts import until_true
from tests.gateway.synthesis.writing import seed_rows, writes

STEPS = """\
name: loop
output_dir: work
steps:
  - synthesize: {{model: {model}, dataset: seed.jsonl, count: 6, per_request: 2}}
  - batch: {{model: {model}, dataset: "${{synthesize.jsonl}}", max_tokens: 9}}
  - evaluate: {{candidates: [{model}], dataset: seed.jsonl, metrics: [exact_match]}}
  - gate: {{evaluation: "${{evaluate.evaluation}}", rules: ["exact_match >= {least}"]}}
  - deploy: {{name: small, model: {model}}}
  - promote: {{route: support, deployment: "${{deploy.name}}", weight: 25}}
"""


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:

        def says(body: dict[str, Any]) -> str:
            return writes(body) if "### Input" in json.dumps(body) else "Hello"

        live.inference.says = says
        chat(live, BUNDLED_MODEL).raise_for_status()
        live.inference.asked.clear()
        live.deploy("old")
        made = {"name": "support", "targets": [{"deployment": "old", "weight": 4}]}
        assert live.http.post("/api/routes", json=made).status_code == 201
        yield live


def written(folder: Path, *, least: float = 0.0) -> Path:
    rows = [{"prompt": one.prompt, "completion": one.completion} for one in seed_rows()]
    (folder / "seed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "pipeline.yaml"
    path.write_text(STEPS.format(model=BUNDLED_MODEL, least=least))
    return path


def measuring(folder: Path, *, least: float = 0.0) -> Path:
    """The same from the evaluation on."""
    path = written(folder, least=least)
    lines = path.read_text().splitlines(keepends=True)
    made = ("  - synthesize:", "  - batch:")
    path.write_text("".join(line for line in lines if not line.startswith(made)))
    return path


def arguments(live: Live, path: Path, *more: str) -> list[str]:
    root = str(live.services.settings.root)
    given = ["--url", live.url, "--key", ADMIN_KEY, "--data-dir", root, "--json", *more]
    return ["pipeline", str(path), *given]


def run(
    live: Live, path: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, dict[str, str]]:
    """The exit code, and what became of each step."""
    code = cli.main(arguments(live, path, *more))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    steps = [one["data"] for one in events if one["event"] == "step"]
    return code, {one["id"]: one["status"] for one in steps}


def test_from_rows_to_a_promoted_deployment_once(
    live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path)
    code, steps = run(live, path, capsys, "--dry-run")
    assert (code, set(steps.values())) == (0, {"to_do"})
    assert not live.inference.asked
    code, steps = run(live, path, capsys)
    assert (code, set(steps.values())) == (0, {"done"})
    [rows] = (tmp_path / "work").glob("synthesize-*/seed_synthetic.jsonl")
    [answers] = (tmp_path / "work").glob("batch-*/*.jsonl")
    assert len(rows.read_text().splitlines()) == len(answers.read_text().splitlines()) == 6
    targets = live.http.get("/api/routes/support").json()["targets"]
    assert targets == [
        {"deployment": "old", "weight": 75},
        {"deployment": "small", "weight": 25},
    ]
    # A second time nothing is done.
    asked = len(live.inference.asked)
    code, steps = run(live, path, capsys)
    assert (code, set(steps.values())) == (0, {"skipped"})
    assert len(live.inference.asked) == asked
    # Of a step that changed, all behind it are done again. (Of results that are gone, see
    # test_config.)
    path.write_text(path.read_text().replace("max_tokens: 9", "max_tokens: 8"))
    _, planned = run(live, path, capsys, "--dry-run")
    code, steps = run(live, path, capsys)
    assert code == 0 and steps.pop("synthesize") == "skipped"
    assert set(steps.values()) == {"done"}
    assert planned.pop("synthesize") == "skipped" and set(planned.values()) == {"to_do"}
    assert len(live.http.get("/api/evaluations").json()["data"]) == 2


def test_a_closed_gate_ends_it_before_anything_is_put_to_work(
    live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, steps = run(live, measuring(tmp_path, least=0.9), capsys)
    assert (code, steps["gate"]) == (4, "failed")
    assert "deploy" not in steps
    assert live.http.get("/api/deployments/small").status_code == 404


def test_killed_while_an_evaluation_runs_it_finds_that_one_again(
    live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    says = live.inference.says
    assert says is not None
    live.inference.says = lambda body: (time.sleep(0.2), says(body))[1]
    path = written(tmp_path)
    command = [sys.executable, "-m", "gateway.cli", *arguments(live, path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until_true(lambda: live.http.get("/api/evaluations").json()["data"])
    process.kill()
    process.wait()
    live.inference.says = says
    code, steps = run(live, path, capsys)
    assert code == 0
    assert (steps["synthesize"], steps["batch"], steps["evaluate"]) == (
        "skipped",
        "skipped",
        "done",
    )
    assert len(live.http.get("/api/evaluations").json()["data"]) == 1


def test_who_cannot_follow_an_evaluation_finds_it_again_and_makes_no_second(
    live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    says = live.inference.says
    assert says is not None
    live.inference.says = lambda body: (time.sleep(0.2), says(body))[1]
    path = measuring(tmp_path)
    command = [sys.executable, "-m", "gateway.cli", *arguments(live, path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until_true(lambda: live.http.get("/api/evaluations").json()["data"])
    # The command alone is killed: to the pipeline it ended with -9, and what it began goes on.
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    assert process.wait(30) != 0
    live.inference.says = says
    code, steps = run(live, path, capsys)
    assert (code, steps["evaluate"]) == (0, "done")
    assert len(live.http.get("/api/evaluations").json()["data"]) == 1


def test_texts_come_to_their_commands_as_they_stand(
    live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path)
    said = "[INST] {all} of it: 'x' \"y\" -- #1 😀 ü"
    steps = [{"batch": {"model": BUNDLED_MODEL, "dataset": "seed.jsonl", "system_prompt": said}}]
    pipeline = {"name": "loop", "output_dir": "work", "steps": steps}
    path.write_text(json.dumps(pipeline, ensure_ascii=False))
    assert run(live, path, capsys)[0] == 0
    assert {body["messages"][0]["content"] for body in live.inference.asked} == {said}


def test_where_no_platform_runs_that_is_said_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path)
    assert cli.main(["pipeline", str(path), "--data-dir", str(tmp_path / "data")]) == 1
    said = capsys.readouterr()
    assert "evaluate, deploy, promote: no GenPlat runs on" in said.err and not said.out
    assert not (tmp_path / "work").exists()


def test_without_a_platform_there_is_nothing_to_promote(
    live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments(live, written(tmp_path), "--local")) == 1
    assert "deploy, promote: deploying and promoting need a GenPlat" in capsys.readouterr().err
    path = tmp_path / "other.yaml"
    path.write_text("steps: [{dance: {}}]")
    assert cli.main(arguments(live, path)) == 1
    assert "there is no 'dance'" in capsys.readouterr().err
