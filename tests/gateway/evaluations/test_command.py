"""`genplat evaluate` as a person types it, over a live gateway, and what its file may say."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from gateway.evaluations.config import read_plan
from gateway.settings import GatewaySettings
from shared.errors import InvalidRequest
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.evaluations.asked import says, word_rows

EXAMPLE = Path(__file__).parents[3] / "examples" / "evaluate.yaml"


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        live.inference.says = says
        live.deploy("good")
        live.deploy("plain")
        yield live


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rows = "\n".join(json.dumps(row) for row in word_rows(12))
    (tmp_path / "rows.jsonl").write_text(rows)
    path = tmp_path / "evaluate.yaml"
    path.write_text(
        "dataset: rows.jsonl\ncandidates: [plain, good]\nmetrics: [rougeL, exact_match]\n"
        "output_dir: out\nrequire: [rougeL >= base]\n"
    )
    return path


def run(live: Live, *arguments: object) -> int:
    return cli.main(["evaluate", "--url", live.url, "--key", ADMIN_KEY, *map(str, arguments)])


def test_a_file_is_evaluated_and_reported(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(live, config) == 0
    said = capsys.readouterr().out
    assert "ROUGE-L" in said and "1.000 (0.758 to 1.000) +" in said
    assert "ok   rougeL >= base holds" in said
    reports = {path.name for path in (config.parent / "out").iterdir()}
    assert reports == {"report.html", "report.json", "report.csv"}
    # The same file again is the same dataset, and a flag wins over the file.
    assert run(live, config, "--require", "rougeL >= base + 0.9", "--limit", "5") == 4
    assert "FAIL rougeL >= base + 0.9 does not hold" in capsys.readouterr().out
    (dataset,) = [
        one for one in live.http.get("/api/datasets").json()["data"] if one["name"] == "rows"
    ]
    evaluations = live.http.get("/api/evaluations").json()["data"]
    assert [one["examples"] for one in evaluations] == [5, 12]
    assert {one["dataset_id"] for one in evaluations} == {dataset["id"]}


def test_machines_read_an_object_a_line(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(live, config, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines][-2:] == ["evaluation", "gate"]
    assert lines[-2]["data"]["results"]["candidates"][1]["metrics"]["rougeL"]["value"] == 1
    assert lines[-1]["data"]["holds"] is True


def test_who_detaches_does_not_wait(live: Live, config: Path) -> None:
    live.inference.seconds_a_word = 1
    assert run(live, config, "--detach") == 0
    (found,) = live.http.get("/api/evaluations").json()["data"]
    assert found["status"] in ("queued", "running")
    live.http.post(f"/api/evaluations/{found['id']}/cancel")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--candidats", "x"], "Did you mean --candidates?"),
        (["--require", "rougeL is good"], "is no rule"),
        (["--metrics", "magic"], "there is no 'magic'"),
        (["--metrics", "[bleu"], "cannot be read as YAML"),
        (["--judge-rubric", "Be kind."], "name the model that is to judge"),
        (["--candidates", "nobody"], "there is no model 'nobody'"),
    ],
)
def test_what_is_wrong_is_said(
    live: Live,
    config: Path,
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        code = run(live, config, *arguments)
    except SystemExit as left:
        code = int(str(left.code))
    assert code in (1, 2)
    assert said in capsys.readouterr().err


def test_the_example_is_a_plan() -> None:
    plan = read_plan(EXAMPLE, {})
    assert plan.dataset == str(EXAMPLE.with_name("plantuml_test.jsonl"))
    assert plan.spec_for("ds_1").candidates == ["HuggingFaceTB/SmolLM2-135M-Instruct"]
    assert plan.output_dir is not None and plan.output_dir.is_absolute()


def test_keys_of_the_judge_are_flat(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "dataset_id": "ds_1",
        "candidates": "one, two",
        "judge": "one",
        "judge_kinds": "similarity",
        "judge_limit": "5",
        "judge_rubric": "Be kind.",
    }
    spec = read_plan(None, given).spec_for(None)
    assert spec.candidates == ["one", "two"]
    assert spec.judge is not None and spec.judge.kinds == ("similarity",)
    assert (spec.judge.limit, spec.judge.rubric) == (5, "Be kind.")
    with pytest.raises(InvalidRequest, match="either dataset"):
        read_plan(None, {"candidates": "one"})
