"""`genplat evaluate --local`: a real inference service as a child, with a tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from gateway.evaluations.here import ANSWERS
from shared.storage import Storage
from tests.trainer_service.tiny import TINY_MODEL, prepare_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # No diagrams are drawn here: starting Java takes longer than all the rest.
    monkeypatch.setenv("GENPLAT_JAVA", "/nowhere/java")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    prepare_tiny_model(Storage(tmp_path / "data"))
    (tmp_path / "rows.csv").write_text(
        "text,target,kind\n" + "".join(f"Say {n},It is {n},k{n % 2}\n" for n in range(6))
    )
    return tmp_path


def evaluate(root: Path, *more: str) -> int:
    return cli.main(
        [
            "evaluate",
            "--local",
            *("--data-dir", str(root / "data"), "--dataset", str(root / "rows.csv")),
            *("--candidates", TINY_MODEL, "--max-tokens", "8", "--output-dir", str(root / "out")),
            *more,
        ]
    )


def result(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / "out" / "report.json").read_text()))


def test_right_here_and_gone_on_with(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(root, "--metrics", "chrf, perplexity") == 0
    said = capsys.readouterr().out
    assert "chrF" in said and "Perplexity" in said
    first = result(root)
    assert first["status"] == "succeeded" and first["done"] == first["total"] == 6
    perplexity = first["results"]["candidates"][0]["metrics"]["perplexity"]
    assert perplexity["value"] > 1 and perplexity["low"] < perplexity["value"]
    assert (root / "out" / "report.html").read_text().startswith("<!doctype html>")

    # Killed behind its fourth answer, in the middle of the fifth: those four are not asked again.
    kept = root / "out" / ANSWERS
    lines = kept.read_text().splitlines(keepends=True)
    marked = [line.replace('"text": "', '"text": "kept ') for line in lines[1:5]]
    kept.write_text("".join([lines[0], *marked]) + lines[5][:30])
    assert evaluate(root, "--metrics", "chrf, perplexity") == 0
    texts = [one["answers"][0]["text"] for one in result(root)["answers"]]
    assert sum(text.startswith("kept ") for text in texts) == 4 and len(texts) == 6

    # Answers to something else are not taken for these.
    capsys.readouterr()
    assert evaluate(root, "--temperature", "1") == 1
    assert "another evaluation" in capsys.readouterr().err


def test_a_model_judges_right_here(root: Path) -> None:
    """A tiny model says nothing that can be read: all of it is counted, and nothing made up."""
    code = evaluate(root, "--metrics", "length", "--limit", "2", "--judge", TINY_MODEL)
    assert code == 0
    told = result(root)["results"]["judge"]
    assert told["judged"] == 2 and told["unreadable"] >= 2
    metrics = result(root)["results"]["candidates"][0]["metrics"]
    assert metrics["judge_similarity"]["value"] is None
