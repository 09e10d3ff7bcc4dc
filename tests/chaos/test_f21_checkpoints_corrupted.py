"""F21: what is wrong with a checkpoint is noticed, whatever file and whatever way; the newest one
that is whole is used, and nothing in any of them is ever run."""

import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.storage import MANIFEST, Storage, write_manifest
from tests.chaos.services import trainer
from tests.chaos.stack import Stack
from tests.chaos.times import ROUNDS
from tests.trainer_service.runs import make_job
from tests.trainer_service.tiny import prepare_tiny_model
from trainer_service.checkpoints import find_checkpoint
from trainer_service.exit_codes import Preempted
from trainer_service.finetune import fine_tune

pytestmark = pytest.mark.timeout(600)

WORKER = trainer(1)
FINGERPRINT = "same"
CANARY = "GENPLAT_CHAOS_CANARY"


class Bomb:
    """Unpickled, it makes a file; nothing may ever unpickle it."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.canary,))


def truncate(file: Path, canary: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path, canary: Path) -> None:
    os.truncate(file, 0)


def flip(file: Path, canary: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def remove(file: Path, canary: Path) -> None:
    file.unlink()


def link(file: Path, canary: Path) -> None:
    """The same bytes, but not here."""
    elsewhere = canary.parent / f"elsewhere-{file.name}"
    shutil.move(file, elsewhere)
    file.symlink_to(elsewhere)


def bomb(file: Path, canary: Path) -> None:
    file.write_bytes(pickle.dumps(Bomb(canary)))


# Of each file; and of a folder as a whole.
FILE_WAYS = (truncate, empty, flip, remove, link, bomb)


def add_file(folder: Path, canary: Path) -> None:
    bomb(folder / "optimizer.pt", canary)


def drop_manifest(folder: Path, canary: Path) -> None:
    (folder / MANIFEST).unlink()


def invent_newer(folder: Path, canary: Path) -> None:
    folder.with_name("step-999999").mkdir()
    folder.with_name("checkpoint-999999").mkdir()


FOLDER_WAYS = (add_file, drop_manifest)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoints folder with the steps 5 and 10, as a training leaves it that was stopped."""
    storage = Storage(tmp_path_factory.mktemp("trained"))
    prepare_tiny_model(storage)
    job = make_job(storage, max_steps=12, save_steps=5)

    def stop_at_ten() -> None:
        if (job.checkpoints / "step-10").exists():
            raise Preempted

    with pytest.raises(Preempted):
        fine_tune(job, lambda _: None, check=stop_at_ten)
    return job.checkpoints


@pytest.fixture
def checkpoints(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run" / "checkpoints"))


def found_step(folder: Path) -> int:
    found = find_checkpoint(folder, fingerprint=FINGERPRINT)
    return found[1].step if found else 0


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("way", FILE_WAYS, ids=lambda way: way.__name__)
def test_a_file_that_changed_is_noticed(checkpoints: Path, tmp_path: Path, way: Any) -> None:
    names = files_of(checkpoints / "step-10")
    assert {MANIFEST, "adapter_model.safetensors", "optimizer.safetensors"} <= set(names)
    canary = tmp_path / CANARY
    for name in names:
        whole = shutil.copytree(checkpoints / "step-10", tmp_path / "whole")
        way(checkpoints / "step-10" / name, canary)
        assert found_step(checkpoints) == 5, name
        shutil.rmtree(checkpoints / "step-10")
        shutil.move(whole, checkpoints / "step-10")
    assert found_step(checkpoints) == 10
    assert not canary.exists()


@pytest.mark.parametrize("way", FOLDER_WAYS, ids=lambda way: way.__name__)
def test_a_folder_that_changed_is_noticed(checkpoints: Path, tmp_path: Path, way: Any) -> None:
    way(checkpoints / "step-10", tmp_path / CANARY)
    assert found_step(checkpoints) == 5
    assert not (tmp_path / CANARY).exists()


def test_an_empty_folder_of_a_higher_step_is_passed_over(checkpoints: Path, tmp_path: Path) -> None:
    invent_newer(checkpoints / "step-10", tmp_path / CANARY)
    assert found_step(checkpoints) == 10


def test_a_bomb_with_a_manifest_of_its_own_does_not_go_off(
    trained: Path, tmp_path: Path, checkpoints: Path
) -> None:
    """Who can write there can also write hashes; still nothing is unpickled."""
    storage = Storage(tmp_path / "data")
    prepare_tiny_model(storage)
    canary = tmp_path / CANARY
    for name in ("optimizer.safetensors", "adapter_model.safetensors", "random.safetensors"):
        job = make_job(storage, name[:6], max_steps=12, save_steps=5)
        shutil.copytree(trained / "step-10", job.checkpoints / "step-10")
        bomb(job.checkpoints / "step-10" / name, canary)
        write_manifest(job.checkpoints / "step-10")
        try:
            fine_tune(job, lambda _: None, check=lambda: None)
        except Exception as error:
            assert "Safetensor" in type(error).__name__, error
        assert not canary.exists()


ALL_WAYS = {way.__name__: way for way in (*FILE_WAYS, *FOLDER_WAYS, invent_newer)}


def corrupt(folder: Path, way: str, canary: Path) -> None:
    change = ALL_WAYS[way]
    change(folder / "optimizer.safetensors" if change in FILE_WAYS else folder, canary)


def stop_behind_two_checkpoints(stack: Stack) -> tuple[str, float]:
    """A run with checkpoints at 10 and 20 whose worker was killed; and when."""
    stack.stages.order("step_done@25", "wait")
    run_id = stack.client.start_run()
    hit = stack.stages.wait("step_done@25")
    stack.kill(WORKER)
    hit.release()
    return run_id, time.monotonic()


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize(
    "way",
    ["flip"] + [pytest.param(way, marks=pytest.mark.chaos) for way in ALL_WAYS if way != "flip"],
)
def test_the_newest_whole_checkpoint_is_used(
    stack: Stack, recovery: Callable[[str, float], None], way: str, round: int
) -> None:
    run_id, moment = stop_behind_two_checkpoints(stack)
    canary = stack.folder / CANARY
    corrupt(stack.storage.run_checkpoints(run_id) / "step-20", way, canary)
    stack.start(WORKER)
    again = stack.stages.wait_passed("step_begins", moment)
    recovery(f"F21 {way}", again - moment)
    stack.client.wait_end(run_id)
    assert stack.client.resumed_step(run_id) == (20 if way == "invent_newer" else 10)
    assert not canary.exists()


@pytest.mark.chaos
def test_without_a_whole_checkpoint_it_starts_over_and_says_so(stack: Stack) -> None:
    run_id, _ = stop_behind_two_checkpoints(stack)
    canary = stack.folder / CANARY
    for step in (10, 20):
        corrupt(stack.storage.run_checkpoints(run_id) / f"step-{step}", "bomb", canary)
    stack.start(WORKER)
    stack.client.wait_end(run_id)
    assert stack.client.resumed_step(run_id) == 0
    warnings = [line for line in stack.client.log(run_id) if "is not used" in line]
    assert len(warnings) == 2
    assert not canary.exists()
