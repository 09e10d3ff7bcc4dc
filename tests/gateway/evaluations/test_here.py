"""`genplat evaluate --local`: a real inference service as a child, with a tiny model."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from gateway.answering import Place
from gateway.evaluations.here import ANSWERS, facts_of
from gateway.evaluations.journal import open_journal
from gateway.evaluations.spec import EvaluationSpec
from gateway.settings import GatewaySettings
from gateway.tables import EvaluationAnswer
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


def answered_before(root: Path, count: int, metrics: Sequence[str], **spec: Any) -> None:
    """As if a command had been killed behind so many answers, in the middle of the next one."""
    asked = {"dataset_id": "local", "candidates": [TINY_MODEL], "max_tokens": 8, **spec}
    place = Place(GatewaySettings(data_dir=root / "data"), local=True)
    facts = facts_of(EvaluationSpec.model_validate(asked), root / "rows.csv", metrics, place)
    rows = [
        EvaluationAnswer(
            evaluation_id="ev_local",
            candidate=0,
            place=place,
            text=f"kept {place}",
            log_likelihood=-9.0,
            likelihood_tokens=3,
        )
        for place in range(count)
    ]

    async def keep() -> None:
        with open_journal(root / "out" / ANSWERS, facts) as journal:
            for row in rows:
                await journal.keep(row)

    asyncio.run(keep())
    with (root / "out" / ANSWERS).open("a") as file:
        file.write('{"evaluation_id": "ev_local", "candidate": 0, "place": 5, "text": "to')


def test_right_here_and_gone_on_with(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answered_before(root, 4, ["chrf", "perplexity"])
    assert evaluate(root, "--metrics", "chrf, perplexity") == 0
    said = capsys.readouterr().out
    assert "chrF" in said and "Perplexity" in said
    first = result(root)
    assert first["status"] == "succeeded" and first["done"] == first["total"] == 6
    # Those four were not asked again.
    texts = [one["answers"][0]["text"] for one in first["answers"]]
    assert sum(text.startswith("kept ") for text in texts) == 4 and len(texts) == 6
    perplexity = first["results"]["candidates"][0]["metrics"]["perplexity"]
    assert perplexity["value"] > 1 and perplexity["low"] < perplexity["value"]
    assert perplexity["examples"] == 6
    assert (root / "out" / "report.html").read_text().startswith("<!doctype html>")

    # All is there: what is computed of it may change, and nobody is asked.
    assert evaluate(root, "--metrics", "bleu, perplexity", "--confidence", "0.9") == 0
    assert "Loading" not in capsys.readouterr().out
    assert [one["answers"][0]["text"] for one in result(root)["answers"]] == texts

    # Answers to something else are not taken for these.
    assert evaluate(root, "--temperature", "1") == 1
    assert "another evaluation" in capsys.readouterr().err


def test_a_model_judges_right_here(root: Path) -> None:
    """A tiny model says nothing that can be read: all of it is counted, and nothing made up."""
    answered_before(root, 2, ["length"], limit=2, judge={"model": TINY_MODEL})
    code = evaluate(root, "--metrics", "length", "--limit", "2", "--judge", TINY_MODEL)
    assert code == 0
    told = result(root)["results"]["judge"]
    assert told["judged"] == 2 and told["unreadable"] >= 2
    metrics = result(root)["results"]["candidates"][0]["metrics"]
    assert metrics["judge_similarity"]["value"] is None
