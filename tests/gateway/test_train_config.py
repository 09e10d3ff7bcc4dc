"""The YAML file and the flags of `genplat train` become a run's spec, or what the recipe reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.train_config import checked_spec, read_config, write_as_json
from shared.errors import InvalidRequest
from shared.runs import FineTuneSpec
from shared.storage import Storage
from trainer_service.job_files import shell_job
from ui.snippets import spec_yaml

EXAMPLE = Path(__file__).parents[2] / "examples" / "grammar.yaml"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "rows.jsonl").write_text("{}")
    return folder / "train.yaml"


def test_the_bundled_example_is_a_training(tmp_path: Path) -> None:
    write_as_json(read_config(EXAMPLE, {}), tmp_path / "spec.json")
    content = json.loads((tmp_path / "spec.json").read_text())
    job = shell_job(content, base=tmp_path, storage=Storage(tmp_path))
    assert len(job.records) > 200
    assert job.spec.task_prefix == "Correct the grammar: "


def test_paths_are_relative_to_the_file(tmp_path: Path, config: Path) -> None:
    config.write_text(
        "dataset: ../rows.jsonl\noutput_dir: /absolute\nlora_r: 8\nbase_model: b\nname: mine\n"
    )
    content = read_config(config, {})
    assert content["name"] == "mine"
    write_as_json(content, tmp_path / "spec.json")
    assert json.loads((tmp_path / "spec.json").read_text()) == {
        "base_model": "b",
        "dataset": str(tmp_path / "rows.jsonl"),
        "output_dir": "/absolute",
        "lora_r": 8,
    }


def test_flags_come_before_the_file(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("dataset_id: ds_1\nvalidation_dataset_id: ds_2\nlora_r: 8\nbase_model: b\n")
    monkeypatch.chdir(tmp_path)
    flags = {
        "dataset": "rows.jsonl",
        "learning_rate": "1e-3",
        "lora_r": "4",
        "target_modules": "[q_proj, v_proj]",
        "load_best_model_at_end": "true",
        "suffix": "42",
    }
    content = read_config(config, flags)
    assert content["dataset"] == str(tmp_path / "rows.jsonl") and "dataset_id" not in content
    assert checked_spec(content, {"dataset_id": "ds_3"}) == {
        "base_model": "b",
        "dataset_id": "ds_3",
        "validation_dataset_id": "ds_2",
        "learning_rate": 1e-3,
        "lora_r": 4,
        "target_modules": ["q_proj", "v_proj"],
        "load_best_model_at_end": True,
        "suffix": "42",
    }


def test_what_is_no_file_stays_the_name_of_a_dataset(config: Path) -> None:
    config.write_text("dataset: rows\nvalidation_dataset: ds_1\n")
    content = read_config(config, {})
    assert (content["dataset"], content["validation_dataset"]) == ("rows", "ds_1")


@pytest.mark.parametrize(
    "asked",
    [
        {"dataset_id": "ds_1"},
        {"dataset_id": "ds_1", "suffix": "007", "seed": 0, "validation_split": 0},
        {"datasets": [{"id": "ds_1", "weight": 2.5}, {"id": "ds_2"}], "preset": "thorough"},
        {"dataset_id": "ds_1", "learning_rate": 1e-5, "target_modules": ["a", "b"]},
        {"dataset_id": "ds_1", "task_prefix": "Résumé: #1 'quoted'\n", "lora_dropout": 0.05},
        {"dataset_id": "ds_1", "validation_dataset_id": "ds_2", "load_best_model_at_end": True},
    ],
)
def test_the_yaml_of_a_run_page_asks_for_the_same_run(config: Path, asked: dict[str, Any]) -> None:
    spec = FineTuneSpec.model_validate({"base_model": "owner/name", **asked})
    config.write_text(spec_yaml(spec.model_dump(mode="json")), encoding="utf-8")
    again = checked_spec(read_config(config, {}), {})
    assert FineTuneSpec.model_validate(again) == spec


@pytest.mark.parametrize("text", ["a: [", "- a list", "\tno: yaml", "", "\x00"])
def test_what_is_no_config_is_refused(config: Path, text: str) -> None:
    config.write_text(text)
    with pytest.raises(InvalidRequest, match=r"train\.yaml"):
        read_config(config, {})


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("learning_rat", "learning_rate"),
        ("lr", "learning_rate"),
        ("epochs", "num_train_epochs"),
        ("lora_rank", "lora_r"),
        ("datset", "dataset"),
        ("Method", "method"),
        ("xyzzy", "--help"),
        ("1", "--help"),
    ],
)
def test_a_key_that_means_nothing(config: Path, key: str, meant: str) -> None:
    config.write_text(f"base_model: b\n{key}: 1\n")
    with pytest.raises(InvalidRequest) as refused:
        read_config(config, {})
    assert key in refused.value.message and meant in refused.value.message


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ({"base_model": "b"}, ""),
        ({"dataset_id": "ds_1"}, "base_model"),
        ({"base_model": "b", "dataset_id": "ds_1", "lora_r": "many"}, "lora_r"),
        ({"base_model": "b", "dataset_id": "ds_1", "dataset": "rows"}, "dataset"),
        ({"base_model": "b", "datasets": [{"id": "ds_1"}], "dataset": "rows"}, "dataset"),
    ],
)
def test_a_spec_that_cannot_be(content: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checked_spec(content, {})
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": None}, "dataset"),
        ({"output_dir": None}, "output_dir"),
        ({"output_dir": str(EXAMPLE)}, "is no folder"),
        ({"output_dir": str(EXAMPLE / "below")}, "is no folder"),
        ({"dataset": "ds_1"}, "no file 'ds_1'"),
        ({"validation_dataset": "none.csv"}, "validation_dataset: there is no file"),
        ({"learning_rate": -1}, "learning_rate"),
    ],
)
def test_what_cannot_be_trained_right_here(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    content = {"base_model": "b", "dataset": str(EXAMPLE), "output_dir": "/out"} | changes
    with pytest.raises(InvalidRequest, match=said):
        write_as_json(content, tmp_path / "spec.json")
    assert not (tmp_path / "spec.json").exists()
