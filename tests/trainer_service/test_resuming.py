"""A resumed run is the run that was never stopped, from the newest checkpoint that is whole."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shared.run_events import Advanced, Checkpointed
from shared.storage import Storage
from tests.trainer_service.families import prepare_family
from tests.trainer_service.recipe import losses, stop_after, train
from tests.trainer_service.runs import make_job
from tests.trainer_service.tiny import TINY_MODEL
from trainer_service.job_files import Job


@pytest.mark.parametrize(
    ("model", "method", "stop"),
    [
        *((TINY_MODEL, "lora", stop) for stop in (3, 10, 11, 25)),
        (TINY_MODEL, "qlora", 11),
        (TINY_MODEL, "full", 11),
        ("tests/t5", "lora", 11),
        ("tests/t5", "full", 3),
        ("tests/t5_v1_1", "full", 11),
        ("tests/gpt_neox", "full", 11),
    ],
)
def test_a_resumed_run_is_the_run_that_was_never_stopped(
    storage: Storage, model: str, method: str, stop: int
) -> None:
    if model != TINY_MODEL:
        prepare_family(storage, model.removeprefix("tests/"), dropout=0.1)
    # Dropout makes the random state count.
    spec = {"max_steps": 30, "save_steps": 10, "lora_dropout": 0.1, "eval_steps": 12}
    spec |= {"base_model": model, "method": method, "learning_rate": 1e-3}
    straight_events, unbroken = train(make_job(storage, "run_straight", **spec))
    job = make_job(storage, "run_resumed", **spec)
    # One call comes while setting up; evaluations call too.
    before, nothing = train(job, check=stop_after(stop + 1))
    assert nothing is None
    after, finished = train(job)
    assert finished is not None and unbroken is not None
    ours, theirs = losses(before) | losses(after), losses(straight_events)
    assert not set(losses(before)) & set(losses(after))
    assert ours.keys() == theirs.keys()
    assert max(abs(ours[step] - theirs[step]) for step in ours) < 1e-4
    resumed = [e.resumed_from_step for e in after if isinstance(e, Advanced)]
    assert max(filter(None, resumed)) == len(losses(before))
    file = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    straight = load_file(storage.run_result("run_straight") / file)
    again = load_file(job.result / file)
    assert straight.keys() == again.keys()
    for name, value in straight.items():
        assert torch.allclose(value, again[name], atol=1e-5)
    assert finished.trained_tokens == unbroken.trained_tokens


def test_the_two_newest_checkpoints_can_be_gone_on_from(storage: Storage) -> None:
    job = make_job(storage, max_steps=12, save_steps=3)
    events, _ = train(job)
    assert [e.step for e in events if isinstance(e, Checkpointed)] == [3, 6, 9, 12]
    assert sorted(path.name for path in job.checkpoints.glob("step-*")) == ["step-12", "step-9"]


def spoil_weights(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def spoil_by_truncation(folder: Path) -> None:
    file = folder / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:100])


def spoil_by_extra_pickle(folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")


def spoil_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    "spoil", [spoil_weights, spoil_by_truncation, spoil_by_extra_pickle, spoil_manifest]
)
def test_a_spoiled_checkpoint_gives_way_to_an_older_one(
    storage: Storage, spoil: Callable[[Path], None]
) -> None:
    job = make_job(storage, max_steps=12, save_steps=4)
    # One call while setting up, eight steps, two evaluations.
    train(job, check=stop_after(11))
    assert {path.name for path in job.checkpoints.iterdir()} == {"step-4", "step-8"}
    spoil(job.checkpoints / "step-8")
    (job.checkpoints / "step-999999").mkdir()
    events, finished = train(job)
    assert finished is not None
    assert [e.resumed_from_step for e in events if isinstance(e, Advanced)].count(4) == 1


def test_a_stop_before_the_first_step_leaves_no_checkpoint(storage: Storage) -> None:
    job = make_job(storage)
    events, finished = train(job, check=stop_after(1))
    assert finished is None and not losses(events)
    assert not list(job.checkpoints.glob("step-*"))


def test_a_stop_where_a_checkpoint_was_just_saved_saves_it_no_second_time(
    storage: Storage,
) -> None:
    job = make_job(storage, max_steps=12, save_steps=4)
    before, _ = train(job, check=stop_after(6))
    after, _ = train(job, check=stop_after(1))
    assert [e.step for e in (*before, *after) if isinstance(e, Checkpointed)] == [4]


def test_what_a_later_step_left_behind_does_not_push_a_new_checkpoint_out(
    storage: Storage,
) -> None:
    """Folders of another spec and damaged ones may have higher numbers than the run has yet."""
    job = make_job(storage, max_steps=12, save_steps=4)
    for stale in (8, 20, 999999):
        (job.checkpoints / f"step-{stale}").mkdir(parents=True)
    train(job, check=stop_after(6))
    assert [path.name for path in job.checkpoints.iterdir()] == ["step-4"]
    events, finished = train(job)
    assert finished is not None
    assert [e.resumed_from_step for e in events if isinstance(e, Advanced)].count(4) == 1
    assert sorted(path.name for path in job.checkpoints.glob("step-*")) == ["step-12", "step-8"]


def test_checkpoints_of_other_data_are_not_taken_up(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    job = make_job(storage, max_steps=4, save_steps=2)
    train(job)
    shutil.rmtree(job.result)
    other = Job(**{**vars(job), "fingerprint": "other"})
    events, _ = train(other)
    assert sorted(losses(events)) == [1, 2, 3, 4]
    assert "another spec or dataset" in caplog.text
