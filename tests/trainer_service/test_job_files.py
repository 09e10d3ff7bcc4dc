"""What a gateway's command asks for, and the data that it names: still there, and unchanged."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.datasets import Record
from shared.errors import InvalidData, InvalidRequest
from shared.runs import ContinueFrom, RunCommand
from shared.storage import Storage
from tests.trainer_service.runs import make_command, small_records, write_dataset
from trainer_service.job_files import Job, SupervisedSpec, shell_job, supervised_job

OTHERS = [Record.from_pair("how much", "too much"), Record.from_pair("how many", "three")]


def job_of(storage: Storage, command: RunCommand) -> Job:
    return supervised_job(SupervisedSpec(command=command, data_dir=storage.root))


def with_validation(storage: Storage) -> RunCommand:
    validation = write_dataset(storage, "ds_other", OTHERS)
    return make_command(storage).model_copy(update={"validation": validation})


def test_the_records_are_those_that_the_command_names(storage: Storage) -> None:
    job = job_of(storage, make_command(storage))
    assert job.records == small_records() and job.validation is None
    assert job.result == storage.run_result("run_a")
    job = job_of(storage, with_validation(storage))
    assert job.records == small_records() and job.validation == OTHERS


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"content") + 12] ^= 1
    path.write_bytes(content)


def lengthen(path: Path) -> None:
    with path.open("a") as lines:
        lines.write(small_records(1)[0].model_dump_json() + "\n")


@pytest.mark.parametrize("dataset", ["ds_small", "ds_other"])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (change, "The records of dataset {} changed since the run was made"),
        (lengthen, "The records of dataset {} changed since the run was made"),
        (Path.unlink, "The dataset {} is gone"),
    ],
)
def test_records_that_are_no_longer_the_same_are_refused(
    storage: Storage, dataset: str, spoil: Callable[[Path], None], reason: str
) -> None:
    command = with_validation(storage)
    spoil(storage.dataset_records(dataset))
    with pytest.raises(InvalidData, match=reason.format(dataset)) as caught:
        job_of(storage, command)
    assert str(storage.root) not in caught.value.message


def test_a_checkpoint_belongs_to_one_spec_and_its_data(storage: Storage) -> None:
    """What changes what is learned changes the fingerprint; another attempt does not."""
    plain = job_of(storage, make_command(storage)).fingerprint
    assert job_of(storage, make_command(storage, attempt=2)).fingerprint == plain
    other_data = write_dataset(storage, "ds_fewer", small_records(23))
    (data,) = make_command(storage).datasets
    changes = (
        {"datasets": (other_data,)},
        {"datasets": (data, other_data)},
        {"datasets": (data.model_copy(update={"weight": 2.0}),)},
        {"chat_template": "{{ messages }}"},
        {"continue_from": ContinueFrom(run_id="run_b")},
        {"continue_from": ContinueFrom(run_id="run_b", step=4)},
    )
    others = (
        make_command(storage, learning_rate=1e-3),
        with_validation(storage),
        *(make_command(storage).model_copy(update=change) for change in changes),
    )
    assert len({plain, *(job_of(storage, command).fingerprint for command in others)}) == 9


def test_several_datasets_keep_their_weights(storage: Storage) -> None:
    other = write_dataset(storage, "ds_other", OTHERS).model_copy(update={"weight": 2.5})
    command = make_command(storage)
    command = command.model_copy(update={"datasets": (*command.datasets, other)})
    job = job_of(storage, command)
    assert job.datasets == ((small_records(), 1.0), (OTHERS, 2.5))
    assert job.records == [*small_records(), *OTHERS]


def shell_file(tmp_path: Path, **changes: object) -> Job:
    for name, records in (("one/pairs", small_records()), ("two/pairs", OTHERS), ("other", OTHERS)):
        path = tmp_path / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(record.model_dump_json() + "\n" for record in records))
    content = {"base_model": "b", "output_dir": "out"} | changes
    return shell_job(content, base=tmp_path, storage=Storage(tmp_path / "data"))


def test_a_shell_file_names_several_datasets_by_path(tmp_path: Path) -> None:
    listed = [{"path": "one/pairs.jsonl"}, {"path": "two/pairs.jsonl", "weight": 0.5}]
    job = shell_file(tmp_path, datasets=listed, validation_dataset="other.jsonl")
    assert job.datasets == ((small_records(), 1.0), (OTHERS, 0.5))
    assert job.validation == OTHERS
    assert [(source.id, source.weight) for source in job.spec.datasets] == [
        ("1-pairs", 1.0),
        ("2-pairs", 0.5),
    ]
    single = shell_file(tmp_path, dataset="one/pairs.jsonl")
    assert single.spec.dataset_id == "pairs" and single.validation is None


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dataset": "other.jsonl", "datasets": [{"path": "other.jsonl"}]},
        {"datasets": [{"path": "other.jsonl", "weight": 0}]},
        {"datasets": [{"id": "ds_1"}]},
    ],
)
def test_a_shell_file_that_names_its_data_wrongly_is_refused(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    with pytest.raises(InvalidRequest, match="dataset"):
        shell_file(tmp_path, **changes)
