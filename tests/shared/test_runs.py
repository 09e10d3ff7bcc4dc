"""Specs are refused where they are wrong, and commands survive the queue."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.runs import DatasetRef, FineTuneSpec, RunCommand


def spec(**changes: object) -> FineTuneSpec:
    return FineTuneSpec.model_validate({"base_model": "a/b", "dataset_id": "ds_a"} | changes)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("num_train_epochs", float("inf")),
        ("max_steps", 0),
        ("lora_r", 513),
        ("suffix", "../x"),
        ("suffix", "a" * 65),
        ("method", "full-ish"),
        ("validation_split", 1),
        ("trust_remote_code", True),
        ("seed", -1),
    ],
)
def test_wrong_fields_are_named(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as error:
        spec(**{field: value})
    assert field in str(error.value)


def test_a_command_survives_the_queue() -> None:
    command = RunCommand(
        run_id="run_a",
        attempt=3,
        spec=spec(),
        datasets=(DatasetRef(id="ds_a", records_sha256="ab"),),
        base_model_folder=Path("/models/mine"),
    )
    assert RunCommand.model_validate_json(command.model_dump_json()) == command
    assert command.job_id == "run_a:3"
    sent = command.model_dump(mode="json")
    assert sent["base_model_folder"] == "/models/mine"
    # What a gateway queued before it knew of folders.
    del sent["base_model_folder"]
    assert RunCommand.model_validate(sent).base_model_folder is None
