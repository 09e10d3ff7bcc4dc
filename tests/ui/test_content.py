"""Code to copy, and the steps of a new user."""

from pathlib import Path

import pytest
import yaml

from gateway.datasets.canonical import check_file
from shared.runs import FineTuneSpec, WeightedDataset
from ui.dataset_samples import SAMPLES
from ui.snippets import chat_snippets, spec_yaml
from ui.start_steps import next_step, start_steps


def test_snippets_name_the_model_and_this_server() -> None:
    texts = [text for _, _, text in chat_snippets("http://127.0.0.1:8000", "my-model")]
    assert len(texts) == 4
    assert all("my-model" in text and "http://127.0.0.1:8000/" in text for text in texts)
    compile(texts[1], "python", "exec")


def test_a_spec_as_yaml_is_the_spec_again() -> None:
    spec = FineTuneSpec(
        base_model="org/model", dataset_id="ds_1", suffix="x: y"[:1], task_prefix="- fix: "
    )
    text = spec_yaml(spec.model_dump(mode="json"))
    assert FineTuneSpec.model_validate(yaml.safe_load(text)) == spec


def test_a_mixed_spec_as_yaml_is_the_spec_again() -> None:
    rows = [WeightedDataset(id="ds_1"), WeightedDataset(id="ds_2", weight=0.5)]
    spec = FineTuneSpec(base_model="org/model", datasets=rows, task_prefix="")
    text = spec_yaml(spec.model_dump(mode="json"))
    assert FineTuneSpec.model_validate(yaml.safe_load(text)) == spec
    assert "dataset_id" not in text and "auto" not in text


def test_a_new_user_is_led_one_step_at_a_time() -> None:
    counts = {"datasets": 0, "runs": 0, "succeeded": 0, "live": 0, "deployments": 0}

    def following(**more: int) -> str | None:
        step = next_step(start_steps(**(counts | more), newest_success="run_9"))
        return step.href if step else None

    assert following() == "/datasets/new"
    assert following(datasets=1) == "/runs/new"
    assert following(datasets=1, runs=1, live=1) == "/runs"
    assert following(datasets=1, runs=1, succeeded=1) == "/deployments/new?model=run_9"
    assert following(datasets=1, runs=1, succeeded=1, deployments=1) is None


@pytest.mark.parametrize(("title", "sample"), SAMPLES)
def test_what_stands_beside_the_upload_form_can_be_uploaded(
    tmp_path: Path, title: str, sample: str
) -> None:
    name = "sample.csv" if title.startswith("CSV") else "sample.jsonl"
    source, records = tmp_path / name, tmp_path / "records.jsonl"
    source.write_text(sample)
    assert check_file(source, filename=name, records=records).rows == 2
