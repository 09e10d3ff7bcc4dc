"""The YAML file of `genplat train` becomes what the recipe reads."""

import json
from pathlib import Path

import pytest

from gateway.train_config import write_as_json
from shared.errors import InvalidRequest
from shared.storage import Storage
from trainer_service.job_files import shell_job

EXAMPLE = Path(__file__).parents[2] / "examples" / "grammar.yaml"


def test_the_bundled_example_is_a_training(tmp_path: Path) -> None:
    write_as_json(EXAMPLE, tmp_path / "spec.json")
    content = json.loads((tmp_path / "spec.json").read_text())
    job = shell_job(content, base=tmp_path, storage=Storage(tmp_path))
    assert len(job.records) > 200
    assert job.spec.task_prefix == "Correct the grammar: "


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = tmp_path / "folder" / "train.yaml"
    config.parent.mkdir()
    config.write_text("dataset: ../rows.jsonl\noutput_dir: /absolute\nlora_r: 8\n")
    write_as_json(config, tmp_path / "spec.json")
    assert json.loads((tmp_path / "spec.json").read_text()) == {
        "dataset": str(tmp_path / "rows.jsonl"),
        "output_dir": "/absolute",
        "lora_r": 8,
    }


@pytest.mark.parametrize("text", ["a: [", "- a list", "\tno: yaml", ""])
def test_what_is_no_config_is_refused(tmp_path: Path, text: str) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(text)
    with pytest.raises(InvalidRequest, match=r"train\.yaml"):
        write_as_json(config, tmp_path / "spec.json")
