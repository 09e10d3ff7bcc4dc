"""THE recipe: setup, train, evaluate, save, in plain functions; knows no queue and no gateway.

Run as ``python -m trainer_service.finetune SPEC.json`` (see `trainer_service.job_files` for the
file). The worker runs the same recipe in a child process: `trainer_service.child`.
"""

import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from shared.chaos import stage
from shared.errors import GenPlatError, InvalidRequest
from shared.logs import configure_logging
from shared.run_events import Advanced, Finished, Measured, Sampled, Stopped
from shared.settings import Settings, read_settings
from shared.storage import Storage, manifest_problem
from trainer_service import exit_codes
from trainer_service.child_process import let_gpu_memory_grow
from trainer_service.data_parallel import Ranks, join, part
from trainer_service.evaluating import validation_loss, write_samples
from trainer_service.hardware import Device, find_device
from trainer_service.job_files import Job, read_json, shell_job
from trainer_service.launching import ALONE, LocalPlace, launch, too_many
from trainer_service.optimization import autocast
from trainer_service.outcomes import SENTENCES
from trainer_service.peak_memory import peak_memory_bytes
from trainer_service.progress import (
    Report,
    Stopwatch,
    as_line,
    evaluation_is_due,
    evaluations_from,
)
from trainer_service.saving import keep, publish, resume, save_position
from trainer_service.training_setup import Training, set_up

log = logging.getLogger(__name__)


def fine_tune(
    job: Job,
    report: Report,
    *,
    check: Callable[[], None],
    stop: Callable[[], bool] = lambda: False,
    device: Device | None = None,
    ranks: Ranks | None = None,
) -> Finished:
    """Do the whole job. ``check`` is called between steps; where it raises `Preempted`, what was
    learned since the last checkpoint is saved before the exception goes on. Where ``stop`` turns
    true, training ends after the step under way and what was learned is published. Of several
    processes (``ranks``) all do this; the first one writes and tells."""
    ranks = ranks or Ranks()
    together = agreed(ranks, check)
    training = set_up(job, report, check=together, device=device or find_device(), ranks=ranks)
    numbers = training.numbers
    if not training.lessons.validation_rows and (
        numbers.early_stopping_patience or numbers.load_best_model_at_end
    ):
        log.warning(
            "There are no validation rows: early_stopping_patience and load_best_model_at_end "
            "have nothing to go by."
        )
    stopped = learn(training, lambda: bool(ranks.agree(int(stop()))))
    return publish(training, stopped)


def agreed(ranks: Ranks, check: Callable[[], None]) -> Callable[[], None]:
    """``check`` for all processes at once: a signal may reach one of them a step earlier."""

    def check_together() -> None:
        wanted = 0
        try:
            check()
        except exit_codes.Preempted:
            wanted = 1
        if ranks.agree(wanted):
            raise exit_codes.Preempted

    return check_together if ranks.size > 1 else check


def learn(training: Training, stop: Callable[[], bool]) -> Stopped | None:
    """Train up to the last step; why it ended before, if it did."""
    numbers = training.numbers
    step = saved = resume(training)
    try:
        while True:
            if evaluation_is_due(numbers, step):
                evaluate(training, step)
            saved = keep(training, step, saved)
            stopped = _reason_to_stop(training, step, stop)
            if stopped or step >= numbers.max_steps:
                evaluate(training, step)
                keep(training, step, saved)
                return stopped
            training.check()
            train_step(training, step)
            step += 1
    except exit_codes.Preempted:
        if step > saved:
            save_position(training, step)
        training.ranks.wait()
        raise


def _reason_to_stop(training: Training, step: int, stop: Callable[[], bool]) -> Stopped | None:
    """Why to end before the last step. Nothing ends before the first one: there would be nothing
    to publish."""
    numbers = training.numbers
    if not 0 < step < numbers.max_steps:
        return None
    if 0 < numbers.early_stopping_patience <= training.standing.stale:
        return "early"
    return "user" if stop() else None


def train_step(training: Training, step: int) -> None:
    watch = Stopwatch()
    stage("step_begins", step + 1)
    numbers = training.numbers
    rows = [training.lessons.rows[index] for index in training.order.rows(step)]
    outcome = training.optimizer.step(training.loss, rows, step)
    stage("step_done", step + 1)
    training.pace.add_step(sum(sum(row.size) for row in rows), watch.seconds)
    training.last_step = Measured(
        step=step + 1,
        total_steps=numbers.max_steps,
        epoch=_epoch(training, step + 1),
        loss=outcome.loss,
        mean_token_accuracy=outcome.accuracy,
        learning_rate=training.optimizer.rate(step),
        grad_norm=outcome.grad_norm,
        tokens_per_second=training.pace.tokens_per_second,
        eta_seconds=training.pace.eta_seconds(
            numbers.max_steps - step - 1,
            evaluations_from(numbers, step + 1) if training.lessons.validation_rows else 0,
        ),
        memory_bytes=peak_memory_bytes(training.device),
    )
    training.report(training.last_step)


def _epoch(training: Training, step: int) -> float:
    return step / training.order.steps_per_epoch


def evaluate(training: Training, step: int) -> None:
    """Validation loss and a few written answers after ``step``, where there is anything to
    validate on and it was not done yet."""
    if not training.lessons.validation_rows or training.standing.evaluated_step == step:
        return
    watch = Stopwatch()
    training.report(Advanced(phase="evaluating"))
    training.model.eval()
    try:
        with autocast(training.device, training.precision):
            eval_loss, accuracy = validation_loss(
                training.loss,
                training.lessons.validation_rows,
                device=training.device.torch_name,
                pad_token_id=training.lessons.pad_token_id,
                # (Shares differ in length: only between steps can all be asked.)
                check=training.check if training.ranks.size == 1 else lambda: None,
                packs=training.optimizer.packs,
                ranks=training.ranks,
            )
            samples = _write_samples(training, step)
    finally:
        training.model.train()
    training.last_evaluation = Measured(
        step=step,
        total_steps=training.numbers.max_steps,
        epoch=_epoch(training, step),
        eval_loss=eval_loss,
        eval_mean_token_accuracy=accuracy,
        memory_bytes=peak_memory_bytes(training.device),
    )
    training.report(training.last_evaluation)
    for sample in samples:
        training.report(sample)
    regular = step % training.numbers.eval_steps == 0
    training.standing = training.standing.evaluated(step, eval_loss, regular=regular)
    training.pace.add_evaluation(watch.seconds)
    training.report(Advanced(phase="training"))


def _write_samples(training: Training, step: int) -> list[Sampled]:
    """By the first process; by all together, where each has a share of the model."""
    ranks, lessons = training.ranks, training.lessons
    return write_samples(
        training.model,
        lessons.tokenizer,
        lessons.template,
        lessons.validation_records if ranks.leads or ranks.sharded else [],
        step=step,
        pad_token_id=lessons.pad_token_id,
        context_length=lessons.context_length,
        max_source_length=training.numbers.max_length,
        generate=partial(training.whole, training.model.generate, synced_gpus=ranks.sharded),
    )


def quiet_libraries() -> None:
    """Progress bars of libraries would be the bulk of the log."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def main(arguments: list[str], place: LocalPlace = ALONE) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m trainer_service.finetune SPEC.json\n")
        return exit_codes.BAD_SPEC
    let_gpu_memory_grow()
    # (All have the same to say of the data.)
    configure_logging("INFO" if place.leads else "ERROR")
    quiet_libraries()
    path = Path(arguments[0])
    try:
        job = shell_job(
            read_json(path), base=path.parent, storage=Storage(read_settings(Settings).root)
        )
        if manifest_problem(job.result) is None:
            sys.stdout.write(f"{job.result} is finished already: choose another output_dir.\n")
            return exit_codes.OK
        if job.spec.devices > 1 and place.size == 1:
            return _on_several_devices(path, job.spec.devices)
        train_here(job, leads=place.leads)
    except (Exception, KeyboardInterrupt) as error:
        return _told(error)
    if place.leads:
        sys.stdout.write(f"model in {job.result}\n")
    return exit_codes.OK


def _told(error: BaseException) -> int:
    """Say in a sentence why training ended, where there is one; the exit code."""
    code = exit_codes.exit_code_of(error)
    sentence = SENTENCES.get(code)
    if isinstance(error, GenPlatError):
        sentence = error.message
    elif isinstance(error, KeyboardInterrupt):
        sentence = "Interrupted."
    if sentence is None:
        raise error
    sys.stderr.write(f"{sentence}\n")
    return code


def _on_several_devices(path: Path, devices: int) -> int:
    """The same once a device; the exit code of a shell."""
    if (why := too_many(devices)) is not None:
        raise InvalidRequest(why, param="devices")
    # Behind the sentence of who failed torchrun would say which process it was.
    logging.disable(logging.ERROR)
    code = launch("trainer_service.shell_rank", str(path), devices=devices)
    return code if code >= 0 else 128 - code


def train_here(job: Job, *, leads: bool) -> None:
    """Do the job, telling its progress at the terminal; one of several processes tells."""

    def report(payload: Any) -> None:
        if leads and (line := as_line(payload)) is not None:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    device = find_device()
    ranks = join(device.torch_name)
    report(fine_tune(job, report, check=lambda: None, device=device, ranks=ranks))
    part()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
