"""What a training child's end means for its run, from exit code and circumstances."""

import contextlib
import signal
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from shared.run_events import Finished
from shared.storage import MANIFEST, manifest_problem, sha256_of
from trainer_service import exit_codes

SUMMARY_FILE = "training.json"
# Why the supervisor itself ended the child.
Ended = Literal["cancelled", "preempted", "paused", "disk_full"]

_CODES = {
    exit_codes.BAD_SPEC: "invalid_spec",
    exit_codes.BAD_DATA: "invalid_data",
    exit_codes.DEVICE_OUT_OF_MEMORY: "gpu_oom",
    exit_codes.DISK_FULL: "disk_full",
}
OOM_SENTENCE = (
    "The training process was killed from outside, most likely because memory ran out. Lower "
    "per_device_train_batch_size or max_length."
)
DISK_SENTENCE = "The disk that holds the data folder is full. Free space and start the run again."
# What a training says for itself before it ends with one of these codes.
SENTENCES = {
    exit_codes.DEVICE_OUT_OF_MEMORY: (
        "The device ran out of memory. Lower per_device_train_batch_size or max_length, or set "
        "gradient_checkpointing."
    ),
    exit_codes.DISK_FULL: DISK_SENTENCE,
}


def outcome(
    code: int, *, ended: Ended | None, finished: Finished | None, error: str | None
) -> Finished:
    """``finished`` is what the child said of its success, ``error`` its last error sentence."""
    if ended == "cancelled":
        return Finished(status="cancelled")
    if code == exit_codes.OK and finished is not None:
        return finished
    if ended == "paused":
        return Finished(status="paused")
    if ended == "preempted" or code == exit_codes.PREEMPTED:
        return Finished(status="preempted")
    if ended == "disk_full":
        return Finished(status="failed", code="disk_full", message=DISK_SENTENCE)
    if code in _CODES:
        return Finished(status="failed", code=_CODES[code], message=error)
    if code == -signal.SIGKILL:
        return Finished(status="failed", code="oom_killed", message=OOM_SENTENCE, retry=True)
    message = error or f"The training process ended without a result ({_name(code)})."
    return Finished(status="failed", code="training_crashed", message=message, retry=True)


def existing_result(folder: Path) -> Finished | None:
    """A success that an earlier attempt had no time to report."""
    if manifest_problem(folder) is not None:
        return None
    digest = sha256_of(folder / MANIFEST)
    with contextlib.suppress(OSError, ValidationError):
        said = Finished.model_validate_json((folder / SUMMARY_FILE).read_bytes())
        return said.model_copy(update={"manifest_sha256": digest})
    return Finished(status="succeeded", manifest_sha256=digest)


def not_started(error: OSError) -> Finished:
    """The end of an attempt whose child could not even be started."""
    if exit_codes.is_disk_full(error):
        return Finished(status="failed", code="disk_full", message=DISK_SENTENCE)
    message = (
        f"The training process could not be started: {error.strerror or type(error).__name__}. "
        "Look at the trainer's log and at the rights on the data folder."
    )
    return Finished(status="failed", code="training_crashed", message=message, retry=True)


def _name(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
