"""What a gateway's command asks for, and the data that it names: still there, and unchanged."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.datasets import Record
from shared.errors import InvalidData
from shared.runs import RunCommand
from shared.storage import Storage
from tests.trainer_service.runs import make_command, small_records, write_dataset
from trainer_service.job_files import Job, SupervisedSpec, supervised_job

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
    others = (
        make_command(storage, learning_rate=1e-3),
        with_validation(storage),
        make_command(storage).model_copy(update={"datasets": (other_data,)}),
    )
    assert len({plain, *(job_of(storage, command).fingerprint for command in others)}) == 4
