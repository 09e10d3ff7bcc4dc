"""The bundled examples without any service, with a tiny model in a real inference service."""

import json
from pathlib import Path

import pytest

from gateway import cli
from gateway.pipeline.config import read_pipeline
from gateway.synthesis.config import SYNTHESIZE, synthesize_config
from shared.storage import Storage
from tests.trainer_service.tiny import TINY_MODEL, prepare_tiny_model

EXAMPLES = Path(__file__).parents[3] / "examples"
EXAMPLE = EXAMPLES / "synthesize.yaml"


def test_the_bundled_examples_are_what_they_say() -> None:
    config = synthesize_config(SYNTHESIZE.read(EXAMPLE, {}), EXAMPLES)
    assert Path(str(config.dataset)) == EXAMPLES / "grammar.csv"
    assert (config.count, config.result_name) == (20, "grammar_synthetic")
    pipeline = read_pipeline(EXAMPLES / "pipeline.yaml")
    assert [step.kind for step in pipeline.steps] == ["synthesize", "train", "evaluate", "gate"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_model_that_knows_nothing_writes_no_rows_and_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    prepare_tiny_model(Storage(tmp_path / "data"), max_position_embeddings=4096)
    arguments = ["synthesize", EXAMPLE, "--local", "--data-dir", tmp_path / "data", "--json"]
    arguments += ["--model", TINY_MODEL, "--output-dir", tmp_path, "--max-requests", 4]
    for _ in range(2):
        assert cli.main(list(map(str, [*arguments, "--max-tokens", 32]))) == 1
        last = json.loads(capfd.readouterr().out.splitlines()[-1])
        assert last["event"] == "synthesis" and last["data"]["kept"] == 0
        assert sum(last["data"]["reasons"].values()) >= 4
    lines = (tmp_path / "grammar_synthetic.journal").read_text().splitlines()
    assert len([line for line in lines if '"answer"' in line]) == 4
