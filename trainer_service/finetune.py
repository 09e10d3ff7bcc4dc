"""THE recipe: setup, train, evaluate, save, in plain functions; knows no queue and no gateway.

Run as ``python -m trainer_service.finetune SPEC.json`` (see `trainer_service.job_files` for the
file). The worker runs the same recipe in a child process: `trainer_service.child`.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from shared.chaos import stage
from shared.errors import GenPlatError
from shared.logs import configure_logging
from shared.run_events import Advanced, Checkpointed, Finished, Measured
from shared.settings import Settings, read_settings
from shared.storage import Storage, atomic_directory, manifest_problem, sha256_of
from trainer_service import exit_codes
from trainer_service.batching import steps_per_epoch
from trainer_service.checkpoints import (
    Position,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from trainer_service.evaluating import validation_loss, write_samples
from trainer_service.hardware import (
    Device,
    find_device,
)
from trainer_service.job_files import Job, read_json, shell_job
from trainer_service.modeling import (
    save_adapter,
)
from trainer_service.optimization import autocast
from trainer_service.progress import Report, Stopwatch, as_line
from trainer_service.training_setup import Training, set_up

log = logging.getLogger(__name__)

SUMMARY_FILE = "training.json"


def fine_tune(
    job: Job, report: Report, *, check: Callable[[], None], device: Device | None = None
) -> Finished:
    """Do the whole job. ``check`` is called between steps; where it raises `Preempted`, what was
    learned since the last checkpoint is saved before the exception goes on."""
    training = set_up(job, report, check=check, device=device or find_device())
    step = saved = resume(training)
    try:
        while step < training.numbers.max_steps:
            check()
            train_step(training, step)
            step += 1
            if step % training.numbers.eval_steps == 0 and step < training.numbers.max_steps:
                evaluate(training, step)
            if step % training.numbers.save_steps == 0:
                save_position(training, step)
                saved = step
        evaluate(training, step)
    except exit_codes.Preempted:
        if step > saved:
            save_position(training, step)
        raise
    return publish(training)


def resume(training: Training) -> int:
    """The step to go on from: that of the newest valid checkpoint, or 0."""
    found = find_checkpoint(training.job.checkpoints, fingerprint=training.job.fingerprint)
    if found is None:
        training.report(Advanced(phase="training"))
        return 0
    path, position = found
    load_checkpoint(path, position, model=training.model, optimizer=training.optimizer)
    training.pace.trained_tokens = position.trained_tokens
    training.pace.train_seconds = position.train_seconds
    training.report(Advanced(phase="training", resumed_from_step=position.step))
    return position.step


def train_step(training: Training, step: int) -> None:
    watch = Stopwatch()
    stage("step_begins", step + 1)
    numbers = training.numbers
    rows = [training.lessons.rows[index] for index in training.order.rows(step)]
    loss, norm = training.optimizer.step(training.loss, rows, step)
    stage("step_done", step + 1)
    training.pace.add_step(sum(len(row.tokens) for row in rows), watch.seconds)
    training.report(
        Measured(
            step=step + 1,
            total_steps=numbers.max_steps,
            epoch=_epoch(training, step + 1),
            loss=loss,
            learning_rate=training.optimizer.rate(step),
            grad_norm=norm,
            tokens_per_second=training.pace.tokens_per_second,
            eta_seconds=training.pace.eta_seconds(numbers.max_steps - step - 1),
        )
    )


def _epoch(training: Training, step: int) -> float:
    return step / steps_per_epoch(len(training.lessons.rows), training.lessons.rows_per_step)


def evaluate(training: Training, step: int) -> None:
    """Validation loss and a few written answers, where there is anything to validate on."""
    if not training.lessons.validation_rows:
        return
    watch = Stopwatch()
    training.report(Advanced(phase="evaluating"))
    training.model.eval()
    try:
        with autocast(training.device, training.precision):
            training.eval_loss = validation_loss(
                training.loss,
                training.lessons.validation_rows,
                device=training.device.torch_name,
                pad_token_id=training.lessons.pad_token_id,
                check=training.check,
            )
            samples = write_samples(
                training.model,
                training.lessons.tokenizer,
                training.lessons.template,
                training.lessons.validation_records,
                step=step,
                pad_token_id=training.lessons.pad_token_id,
            )
    finally:
        training.model.train()
    training.report(
        Measured(
            step=step,
            total_steps=training.numbers.max_steps,
            epoch=_epoch(training, step),
            eval_loss=training.eval_loss,
        )
    )
    for sample in samples:
        training.report(sample)
    training.pace.add_other(watch.seconds)
    training.report(Advanced(phase="training"))


def save_position(training: Training, step: int) -> None:
    """A checkpoint from which `resume` goes on exactly."""
    watch = Stopwatch()
    path = save_checkpoint(
        training.job.checkpoints,
        Position(
            step=step,
            fingerprint=training.job.fingerprint,
            trained_tokens=training.pace.trained_tokens,
            train_seconds=training.pace.train_seconds,
            scaler=training.optimizer.scaler.state_dict(),
        ),
        model=training.model,
        template=training.lessons.template,
        optimizer=training.optimizer,
    )
    stage("checkpoint_saved", step)
    training.pace.add_other(watch.seconds)
    training.report(Checkpointed(step=step, path=path.name, eval_loss=training.eval_loss))


def publish(training: Training) -> Finished:
    """Put the finished adapter in its place, whole or not at all."""
    training.report(Advanced(phase="saving"))
    finished = Finished(
        status="succeeded",
        trained_tokens=training.pace.trained_tokens,
        train_seconds=training.pace.train_seconds,
        tokens_per_second=training.pace.overall_tokens_per_second,
        eval_loss=training.eval_loss,
    )
    result = training.job.result
    with atomic_directory(result) as temporary:
        save_adapter(training.model, training.lessons.template, temporary)
        (temporary / SUMMARY_FILE).write_text(finished.model_dump_json(), encoding="utf-8")
    stage("result_saved")
    digest = sha256_of(result / "manifest.json")
    return finished.model_copy(update={"manifest_sha256": digest})


def quiet_libraries() -> None:
    """Progress bars of libraries would be the bulk of the log."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m trainer_service.finetune SPEC.json\n")
        return exit_codes.BAD_SPEC
    configure_logging()
    quiet_libraries()
    path = Path(arguments[0])

    def report(payload: Any) -> None:
        if (line := as_line(payload)) is not None:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    try:
        job = shell_job(
            read_json(path), base=path.parent, storage=Storage(read_settings(Settings).root)
        )
        if manifest_problem(job.result) is None:
            sys.stdout.write(f"{job.result} is finished already: choose another output_dir.\n")
            return exit_codes.OK
        report(fine_tune(job, report, check=lambda: None))
    except (GenPlatError, KeyboardInterrupt) as error:
        sys.stderr.write(f"{getattr(error, 'message', 'Interrupted.')}\n")
        return exit_codes.exit_code_of(error)
    sys.stdout.write(f"adapter in {job.result}\n")
    return exit_codes.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
