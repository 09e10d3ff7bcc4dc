"""When a run ends before its last step, and what it publishes then."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from shared.run_events import Payload
from shared.storage import Storage, manifest_problem
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
from trainer_service.finetune import fine_tune


def test_early_stopping_ends_where_patience_does(storage: Storage) -> None:
    job = spoiling_job(storage, early_stopping_patience=3, load_best_model_at_end=False)
    events, finished = train(job)
    losses = list(evaluations(events).values())
    assert finished is not None and finished.stopped == "early"
    assert len(losses) < 20
    lowest = losses.index(min(losses))
    assert len(losses) - 1 - lowest == 3
    assert finished.eval_loss == losses[-1]


def test_patience_counts_the_evaluations_that_were_asked_for(storage: Storage) -> None:
    """Not those that checkpoints need."""
    job = spoiling_job(storage, early_stopping_patience=3, eval_steps=4, save_steps=1)
    events, finished = train(job)
    losses = evaluations(events)
    assert finished is not None and finished.stopped == "early"
    last, lowest = max(losses), min(losses, key=losses.__getitem__)
    assert last % 4 == 0
    assert sum(lowest < step for step in losses if step % 4 == 0) == 3


@pytest.mark.parametrize("preempt_after", [1, 8, 9, 12])
@pytest.mark.parametrize("save_steps", [3, 1000])
def test_early_stopping_comes_at_the_same_step_after_a_kill(
    storage: Storage, preempt_after: int, save_steps: int
) -> None:
    spec = {"early_stopping_patience": 3, "load_best_model_at_end": True, "save_steps": save_steps}
    straight, unbroken = train(spoiling_job(storage, "run_straight", **spec))
    assert unbroken is not None and unbroken.stopped == "early"
    job = spoiling_job(storage, "run_killed", **spec)
    before, nothing = train(job, preempt_after=preempt_after)
    assert nothing is None
    if save_steps == 3 and preempt_after > 3:
        # Killed, not asked to stop: what it saved in its last moment is not there.
        shutil.rmtree(job.checkpoints / f"step-{len(measured(before))}")
        assert [e.step for e in checkpoints(before)][-2:]
    after, finished = train(job)
    assert finished is not None
    assert (finished.stopped, finished.best_step) == ("early", unbroken.best_step)
    assert finished.eval_loss == pytest.approx(unbroken.eval_loss, abs=1e-4)
    assert measured(after)[-1].step == measured(straight)[-1].step
    ours, theirs = (
        load_file(storage.run_result(name) / ADAPTER) for name in ("run_killed", "run_straight")
    )
    for name, value in theirs.items():
        assert torch.allclose(value, ours[name], atol=1e-5)


@pytest.mark.parametrize("wanted_from", [0, 5])
def test_a_run_that_is_to_end_publishes_what_it_learned(storage: Storage, wanted_from: int) -> None:
    job = make_job(storage, max_steps=50)
    events: list[Payload] = []
    finished = fine_tune(
        job,
        events.append,
        check=lambda: None,
        stop=lambda: len(measured(events)) >= wanted_from,
        device=CPU,
    )
    # Not before the first step: there would be nothing to publish.
    steps = max(1, wanted_from)
    assert [e.step for e in measured(events)] == list(range(1, steps + 1))
    assert (finished.status, finished.stopped) == ("succeeded", "user")
    assert list(evaluations(events)) == [steps] and finished.eval_loss is not None
    assert manifest_problem(job.result) is None
    said = json.loads((job.result / "training.json").read_text())
    assert said["stopped"] == "user"


def test_a_resumed_run_that_is_to_end_learns_nothing_more(storage: Storage) -> None:
    job = make_job(storage, max_steps=50)
    before, _ = train(job, preempt_after=7)
    after, finished = train(job, stop=lambda: True)
    assert len(measured(before)) == 7 and not measured(after)
    assert finished is not None and finished.stopped == "user"
    saved, published = (
        load_file(path / ADAPTER) for path in (job.checkpoints / "step-7", job.result)
    )
    assert all(torch.equal(value, published[name]) for name, value in saved.items())


def test_patience_without_validation_rows_is_told(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    job = make_job(storage, max_steps=2, validation_split=0, early_stopping_patience=2)
    _, finished = train(job)
    assert finished is not None and finished.stopped is None
    assert "no validation rows" in caplog.text
