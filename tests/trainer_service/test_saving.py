"""What is kept of a training: older checkpoints' weights, the best ones, and when it may end."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shared.run_events import Advanced, Measured, Payload
from shared.storage import RESUME_FILES, Storage, atomic_directory, manifest_problem
from tests.trainer_service.runs import make_job
from tests.trainer_service.spoiling import (
    ADAPTER,
    CPU,
    checkpoints,
    evaluations,
    measured,
    spoiling_job,
    train,
)
from trainer_service import checkpoints as kept
from trainer_service import exit_codes
from trainer_service.finetune import fine_tune
from trainer_service.job_files import Job


def names(job: Job) -> list[str]:
    return sorted(path.name for path in job.checkpoints.iterdir())


def test_of_older_checkpoints_the_weights_stay(storage: Storage) -> None:
    job = make_job(storage, max_steps=12, save_steps=1, eval_steps=12)
    events, _ = train(job)
    # Two to go on from, eight older ones; nothing of the first two.
    assert names(job) == sorted(
        ["step-12", "step-11", *(f"weights-{step}" for step in range(3, 11))]
    )
    for path in job.checkpoints.glob("weights-*"):
        assert manifest_problem(path) is None
        files = {file.name for file in path.iterdir()}
        assert ADAPTER in files and not files & RESUME_FILES
    last = checkpoints(events)[-1]
    assert last.kept == tuple(range(3, 13))
    assert (last.loss, last.eval_loss) == (measured(events)[-1].loss, evaluations(events)[12])
    assert last.best and checkpoints(events)[0].kept == (1,)


def test_the_best_outlives_the_older_ones(storage: Storage) -> None:
    job = spoiling_job(storage, max_steps=36, save_steps=2)
    events, finished = train(job)
    losses = evaluations(events)
    best = min(losses, key=losses.__getitem__)
    assert best <= 14, "the loss was to rise"
    assert f"weights-{best}" in names(job)
    assert len(list(job.checkpoints.glob("weights-*"))) == 9
    assert [c.step for c in checkpoints(events) if c.best][-1] == best
    # Only where it is asked for are the best weights the result.
    assert finished is not None and finished.best_step is None
    assert finished.eval_loss == losses[36]


@pytest.mark.parametrize(("eval_steps", "save_steps"), [(4, 5), (5, 1), (1000, 6)])
def test_every_checkpoint_has_its_validation_loss(
    storage: Storage, eval_steps: int, save_steps: int
) -> None:
    job = make_job(storage, max_steps=12, save_steps=save_steps, eval_steps=eval_steps)
    events, _ = train(job)
    saved = {e.step: e.eval_loss for e in checkpoints(events)}
    assert list(saved) == list(range(save_steps, 13, save_steps))
    found = evaluations(events)
    assert saved == {step: found[step] for step in saved}
    assert set(found) == {*saved, *range(eval_steps, 13, eval_steps), 12}


def test_without_validation_rows_checkpoints_have_no_validation_loss(storage: Storage) -> None:
    events, _ = train(make_job(storage, max_steps=4, save_steps=2, validation_split=0))
    assert not evaluations(events) and len(checkpoints(events)) == 2


@pytest.mark.parametrize("stop_at", [None, 4, 8, 9])
def test_the_best_is_the_best_of_all_checkpoints(storage: Storage, stop_at: int | None) -> None:
    job = spoiling_job(
        storage, load_best_model_at_end=True, max_steps=20, eval_steps=7, save_steps=2
    )
    events, finished = train(job, preempt_after=stop_at)
    if stop_at is not None:
        again, finished = train(job)
        events += again
    losses = evaluations(events)
    assert sorted(losses) == sorted({*range(2, 21, 2), 7, 14})
    assert finished is not None and finished.eval_loss == min(losses.values())
    assert losses[finished.best_step or 0] == finished.eval_loss


def test_damaged_weights_are_not_made_to_look_whole(storage: Storage) -> None:
    job = make_job(storage, max_steps=12, save_steps=4)
    train(job, preempt_after=4)
    file = job.checkpoints / "step-4" / ADAPTER
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    train(job, preempt_after=2)
    file.write_bytes(content)
    train(job)
    assert names(job) == ["step-12", "step-8", "weights-6"]


@pytest.mark.parametrize("save_steps", [1000, 3, 2])
def test_the_best_weights_are_published(storage: Storage, save_steps: int) -> None:
    job = spoiling_job(storage, load_best_model_at_end=True, max_steps=30, save_steps=save_steps)
    events, finished = train(job)
    losses = evaluations(events)
    best = min(losses, key=losses.__getitem__)
    assert finished is not None and best < 30
    assert (finished.best_step, finished.eval_loss) == (best, losses[best])
    assert manifest_problem(job.result) is None
    assert not RESUME_FILES & {path.name for path in job.result.iterdir()}
    # They are those that a run of so many steps has at that moment.
    straight = spoiling_job(storage, "run_b", max_steps=30)
    train(straight, preempt_after=best)
    ours, theirs = (
        load_file(folder / ADAPTER)
        for folder in (job.result, straight.checkpoints / f"step-{best}")
    )
    for name, value in theirs.items():
        assert torch.allclose(value, ours[name], atol=1e-6)


def test_best_weights_that_are_lost_give_way_to_the_next(storage: Storage) -> None:
    job = spoiling_job(storage, load_best_model_at_end=True, max_steps=30, save_steps=4)
    before, _ = train(job, preempt_after=24)
    losses = evaluations(before)
    best = min(losses, key=losses.__getitem__)
    for path in job.checkpoints.glob(f"*-{best}"):
        shutil.rmtree(path)
    after, finished = train(job)
    assert finished is not None
    later = evaluations(after)
    assert finished.best_step == min(later, key=later.__getitem__)
    assert finished.eval_loss == min(later.values())


@pytest.mark.parametrize("load_best", [True, False])
def test_an_evaluation_that_was_broken_off_is_made_up_for(
    storage: Storage, load_best: bool
) -> None:
    """A stop in the midst of an evaluation saves the step; what it says must not be missed."""
    job = spoiling_job(storage, max_steps=8, eval_steps=4, load_best_model_at_end=load_best)
    events: list[Payload] = []

    def check() -> None:
        if any(isinstance(e, Advanced) and e.phase == "evaluating" for e in events):
            raise exit_codes.Preempted

    with pytest.raises(exit_codes.Preempted):
        fine_tune(job, events.append, check=check, device=CPU)
    assert not evaluations(events) and [e.step for e in checkpoints(events)] == [4]
    after, finished = train(job)
    assert sorted(evaluations(after)) == [4, 8]
    assert [e.step for e in measured(after)] == [5, 6, 7, 8]
    assert finished is not None and finished.best_step in ((4, 8) if load_best else (None,))
    told = checkpoints(after)[0]
    assert (told.step, told.eval_loss, told.best) == (4, evaluations(after)[4], True)


def test_what_the_run_has_yet_to_make_again_is_gone_once_it_goes_on(storage: Storage) -> None:
    job = spoiling_job(storage, load_best_model_at_end=True, max_steps=12, eval_steps=1)
    job = replace(job, spec=job.spec.model_copy(update={"save_steps": 2}))
    train(job, preempt_after=5)
    shutil.rmtree(job.checkpoints / "step-5", ignore_errors=True)
    (job.checkpoints / "weights-5").mkdir(exist_ok=True)
    seen: list[list[str]] = []
    fine_tune(
        job,
        lambda event: seen.append(names(job)) if isinstance(event, Advanced) else None,
        check=lambda: None,
        device=CPU,
    )
    assert any("step-4" in found and "weights-5" not in found for found in seen)


def test_memory_is_measured(storage: Storage) -> None:
    events, _ = train(make_job(storage, max_steps=2))
    peaks = [e.memory_bytes for e in events if isinstance(e, Measured)]
    assert all(peak is not None and peak > 50_000_000 for peak in peaks)


def test_only_the_best_weights_stay_of_whole_models(storage: Storage, tmp_path: Path) -> None:
    """Whole models are large: of those there is no row of older ones."""
    folder = tmp_path / "checkpoints"
    for step in range(1, 8):
        target = folder / f"step-{step}"
        with atomic_directory(target) as temporary:
            (temporary / "model.safetensors").write_bytes(bytes([step]))
            (temporary / "position.json").write_text("{}")
        kept._tidy(folder, best_step=3, kept_weights=0)
    assert sorted(path.name for path in folder.iterdir()) == ["step-6", "step-7", "weights-3"]
    assert kept.kept_steps(folder) == (3, 6, 7)
    assert kept.find_weights(folder, 3) == folder / "weights-3"
    assert kept.find_weights(folder, 4) is None
