"""One thing, two ids: what `/api` calls ``ds_x`` and ``run_x`` is ``file-x`` and ``ftjob-x`` in
`/v1`, with the same tail."""

import re

from shared.errors import InvalidRequest, NotFound

DATASET, RUN, BATCH_FILE = "ds_", "run_", "bf_"
FILE, RESULT_FILE, JOB = "file-", "file-result-", "ftjob-"
# How each kind of file is called, by what it is stored as.
_FILES = {RUN: RESULT_FILE, BATCH_FILE: "file-batch-", DATASET: FILE}
EVENT, CHECKPOINT = "ftevent-", "ftckpt_"

# (A dataset's tail holds no hyphen: another file's id is never a dataset's.)
_TAIL = re.compile(r"[A-Za-z0-9_]{1,80}")


def file_id(stored: str) -> str:
    """The file that a dataset or a batch's file is, or that holds a run's results."""
    kind, tail = _split(stored)
    return f"{_FILES.get(kind, FILE)}{tail}"


def stored_id(file: str) -> str:
    """The dataset, the run or the batch's file behind a file's id. Raises `NotFound` for what is
    no such id."""
    for kind, prefix in _FILES.items():
        if file.startswith(prefix) and _TAIL.fullmatch(tail := file.removeprefix(prefix)):
            return f"{kind}{tail}"
    raise no_file(file)


def dataset_id(file: str, param: str) -> str:
    """The dataset behind the file that ``param`` names in a request."""
    try:
        found = stored_id(file)
    except NotFound as error:
        raise no_training_data(file, param) from error
    if not found.startswith(DATASET):
        raise InvalidRequest(
            f"{param} names no file to learn from: {file!r}. Name a file with the purpose "
            "'fine-tune'.",
            param=param,
        )
    return found


def job_id(run_id: str) -> str:
    return f"{JOB}{_split(run_id)[1]}"


def run_id(job: str) -> str:
    """The run behind a job's id. Raises `NotFound` for what is no such id."""
    if job.startswith(JOB) and _TAIL.fullmatch(tail := job.removeprefix(JOB)):
        return f"{RUN}{tail}"
    raise no_job(job)


def event_id(run_id: str, place: str) -> str:
    return f"{EVENT}{_split(run_id)[1]}-{place}"


def checkpoint_id(run_id: str, step: str) -> str:
    return f"{CHECKPOINT}{_split(run_id)[1]}-{step}"


def _split(stored: str) -> tuple[str, str]:
    kind, _, tail = stored.partition("_")
    return f"{kind}_", tail


def no_file(file: str) -> NotFound:
    return NotFound(f"There is no file {file[:80]!r}.", param="file_id")


def no_job(job: str) -> NotFound:
    return NotFound(f"There is no fine-tuning job {job[:80]!r}.", param="fine_tuning_job_id")


def no_training_data(file: str, param: str) -> InvalidRequest:
    return InvalidRequest(
        f"{param} names no file of yours: {file[:80]!r}. Upload it with the purpose 'fine-tune' "
        "and name it by its id.",
        code="invalid_file",
        param=param,
    )


def unknown_cursor(after: str) -> InvalidRequest:
    return InvalidRequest(
        f"after names nothing in this list: {after[:80]!r}. Leave it out to start anew.",
        param="after",
    )
