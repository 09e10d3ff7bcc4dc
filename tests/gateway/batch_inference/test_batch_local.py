"""The bundled example without any service, with a tiny model in a real inference service."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import cli
from gateway.batch_inference.config import BATCH, batch_config
from shared.storage import Storage
from tests.gateway.parts import until_true
from tests.trainer_service.tiny import TINY_MODEL, prepare_tiny_model

EXAMPLES = Path(__file__).parents[3] / "examples"
EXAMPLE = EXAMPLES / "batch_inference.yaml"


def test_the_bundled_example_is_a_batch() -> None:
    config = batch_config(BATCH.read(EXAMPLE, {}))
    assert Path(config.dataset) == EXAMPLES / "plantuml_test.jsonl"
    assert config.concurrency == "auto" and config.result_name == "plantuml_test"


def test_the_docs_tell_of_every_key() -> None:
    text = (EXAMPLES.parent / "docs" / "batch.md").read_text(encoding="utf-8")
    assert [name for name in BATCH.known if f"`{name}`" not in text] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_with_its_service_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GENPLAT_JAVA", "/nowhere/java")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    prepare_tiny_model(Storage(tmp_path / "data"), max_position_embeddings=4096)
    out = tmp_path / "out"
    arguments = ["batch", "--from-config", EXAMPLE, "--local", "--data-dir", tmp_path / "data"]
    arguments += ["--model", TINY_MODEL, "--output-dir", out, "--concurrency", 2]
    command = list(map(str, arguments))
    journal = out / "plantuml_test.journal"
    with subprocess.Popen([sys.executable, "-m", "gateway.cli", *command]) as process:
        until_true(lambda: _rows(journal) > 2, seconds=90)
        process.kill()
    written = _rows(journal)
    assert 3 <= written < 32
    assert cli.main(command) == 0
    assert f"{written} of 32 rows were answered before." in capfd.readouterr().out
    rows = [json.loads(line) for line in (out / "plantuml_test.jsonl").read_text().splitlines()]
    pairs = (EXAMPLES / "plantuml_test.jsonl").read_text()
    wanted = [json.loads(line) for line in pairs.splitlines()]
    assert [row["instructions"] for row in rows] == [pair["prompt"] for pair in wanted]
    assert [row["target_responses"] for row in rows] == [pair["completion"] for pair in wanted]
    assert all(row["candidate_responses"] for row in rows)


def _rows(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") - 1 if journal.exists() else 0
