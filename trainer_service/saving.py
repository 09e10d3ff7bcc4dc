"""What is kept of a training: checkpoints on its way, the best weights, and the result."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

from shared.chaos import stage
from shared.run_events import Advanced, Checkpointed, Finished, Stopped
from shared.storage import atomic_directory, link_weights, sha256_of
from trainer_service.checkpoints import (
    Position,
    WriteWeights,
    drop_after,
    find_checkpoint,
    find_weights,
    kept_steps,
    load_checkpoint,
    save_checkpoint,
    save_weights_alone,
)
from trainer_service.continuing import load_first_weights
from trainer_service.modeling import learned_tensors, save_weights
from trainer_service.outcomes import SUMMARY_FILE
from trainer_service.progress import Stopwatch
from trainer_service.sharding import gathered
from trainer_service.training_setup import Training

log = logging.getLogger(__name__)

# Adapters are small: of so many older checkpoints the weights stay, to be deployed.
KEPT_ADAPTERS = 8


def resume(training: Training) -> int:
    """The step to go on from: that of the newest valid checkpoint, or 0. The first of several
    processes tidies up before the others look."""
    with training.ranks.in_turn():
        return _resume(training)


def _resume(training: Training) -> int:
    folder = training.job.checkpoints
    found = find_checkpoint(folder, fingerprint=training.job.fingerprint)
    drop_after(folder, 0 if found is None else found[1].step)
    if found is None:
        load_first_weights(training.job, training.model)
        training.report(Advanced(phase="training"))
        return 0
    path, position = found
    load_checkpoint(path, position, model=training.model, optimizer=training.optimizer)
    training.pace.trained_tokens = position.trained_tokens
    training.pace.train_seconds = position.train_seconds
    training.standing = position.standing
    best = position.standing.best_step
    if best is not None and find_weights(folder, best) is None:
        log.warning("The weights of step %d, the best until now, are gone or damaged.", best)
        training.standing = position.standing.without_best()
    training.report(Advanced(phase="training", resumed_from_step=position.step))
    return position.step


def weights_writer(training: Training) -> WriteWeights:
    """What writes into a folder all that was learned until now, with what it takes to serve it. Of
    a sharded model all processes have to ask; the first one gets something to write."""
    method = training.job.spec.method
    return partial(
        save_weights,
        training.model,
        training.lessons.template,
        method=method,
        base_folder=training.lessons.folder,
        learned=gathered(learned_tensors(training.model, method), training.ranks),
    )


def _kept_weights(training: Training) -> int:
    return 0 if training.job.spec.method == "full" else KEPT_ADAPTERS


def keep(training: Training, step: int, saved: int) -> int:
    """What is due after ``step``: a checkpoint, or the weights alone where they are the best yet
    and wanted, or lie there since a stop came before their evaluation. The step of the newest
    checkpoint, ``saved`` before."""
    if step > saved and step % training.numbers.save_steps == 0:
        save_position(training, step)
        return step
    wanted = training.numbers.load_best_model_at_end or step == saved
    if wanted and training.standing.would_be_best(step):
        _keep_best(training, step)
    return saved


def _keep_best(training: Training, step: int) -> None:
    training.standing = training.standing.kept(step)
    write_weights = weights_writer(training)
    if not training.ranks.leads:
        return
    # They lie there already where the evaluation came after the checkpoint, of a preempted run.
    path = find_weights(training.job.checkpoints, step) or save_weights_alone(
        training.job.checkpoints,
        step,
        write_weights=write_weights,
        kept_weights=_kept_weights(training),
    )
    _tell_checkpoint(training, step, path)


def save_position(training: Training, step: int) -> None:
    """A checkpoint from which `resume` goes on exactly."""
    watch = Stopwatch()
    training.standing = training.standing.kept(step)
    write_weights = weights_writer(training)
    optimizer = gathered(training.optimizer.tensors(), training.ranks)
    if not training.ranks.leads:
        return
    path = save_checkpoint(
        training.job.checkpoints,
        Position(
            step=step,
            fingerprint=training.job.fingerprint,
            trained_tokens=training.pace.trained_tokens,
            train_seconds=training.pace.train_seconds,
            scaler=training.optimizer.scaler.state_dict(),
            standing=training.standing,
        ),
        write_weights=write_weights,
        optimizer=optimizer,
        kept_weights=_kept_weights(training),
    )
    stage("checkpoint_saved", step)
    training.pace.add_other(watch.seconds)
    _tell_checkpoint(training, step, path)


def _tell_checkpoint(training: Training, step: int, path: Path) -> None:
    measured: dict[str, Any] = {}
    for said in (training.last_step, training.last_evaluation):
        if said is not None and said.step == step:
            measured |= said.model_dump(exclude_none=True)
    training.report(
        Checkpointed(
            step=step,
            path=path.name,
            loss=measured.get("loss"),
            eval_loss=measured.get("eval_loss"),
            mean_token_accuracy=measured.get("mean_token_accuracy"),
            eval_mean_token_accuracy=measured.get("eval_mean_token_accuracy"),
            best=training.standing.best_step == step,
            kept=kept_steps(training.job.checkpoints),
        )
    )


def publish(training: Training, stopped: Stopped | None) -> Finished:
    """Put the finished weights in their place, whole or not at all."""
    training.report(Advanced(phase="saving"))
    standing = training.standing
    best = _best_weights(training)
    finished = Finished(
        status="succeeded",
        stopped=stopped,
        best_step=None if best is None else standing.best_step,
        trained_tokens=training.pace.trained_tokens,
        train_seconds=training.pace.train_seconds,
        tokens_per_second=training.pace.overall_tokens_per_second,
        eval_loss=standing.eval_loss if best is None else standing.best_loss,
    )
    write_weights = weights_writer(training)
    if not training.ranks.leads:
        return finished
    result = training.job.result
    with atomic_directory(result) as temporary:
        if best is None:
            write_weights(temporary)
        else:
            link_weights(best, temporary)
        (temporary / SUMMARY_FILE).write_text(finished.model_dump_json(), encoding="utf-8")
    stage("result_saved")
    digest = sha256_of(result / "manifest.json")
    return finished.model_copy(update={"manifest_sha256": digest})


def _best_weights(training: Training) -> Path | None:
    """Where the best weights lie, if those are to be published and not the last ones."""
    step = training.standing.best_step
    if step is None or not training.numbers.load_best_model_at_end:
        return None
    return find_weights(training.job.checkpoints, step)
