"""How a child's end becomes the end of an attempt."""

import errno

import pytest
import torch

from shared.run_events import Finished
from trainer_service import exit_codes
from trainer_service.outcomes import SENTENCES, Ended, not_started, outcome

SUCCESS = Finished(status="succeeded", trained_tokens=5)


@pytest.mark.parametrize(
    ("code", "ended", "status", "name", "retry"),
    [
        (0, None, "succeeded", None, False),
        (64, None, "failed", "invalid_spec", False),
        (65, None, "failed", "invalid_data", False),
        (69, None, "failed", "gpu_oom", False),
        (73, None, "failed", "disk_full", False),
        (75, None, "preempted", None, False),
        (-9, None, "failed", "oom_killed", True),
        (-11, None, "failed", "training_crashed", True),
        (1, None, "failed", "training_crashed", True),
        (-9, "cancelled", "cancelled", None, False),
        (-9, "preempted", "preempted", None, False),
        (-9, "disk_full", "failed", "disk_full", False),
        (0, "preempted", "succeeded", None, False),
        (75, "paused", "paused", None, False),
        (-9, "paused", "paused", None, False),
        # It was through before the pause reached it.
        (0, "paused", "succeeded", None, False),
    ],
)
def test_each_exit_code_has_its_meaning(
    code: int, ended: Ended | None, status: str, name: str | None, retry: bool
) -> None:
    end = outcome(code, ended=ended, finished=SUCCESS, error="Why it failed.")
    assert (end.status, end.code, end.retry) == (status, name, retry)
    assert (end.status != "failed") or end.message


def test_a_child_that_ends_without_a_result_has_not_succeeded() -> None:
    end = outcome(0, ended=None, finished=None, error=None)
    assert (end.status, end.retry) == ("failed", True)
    assert "exit code 0" in str(end.message)


@pytest.mark.parametrize(
    ("number", "code", "retry"),
    [
        (errno.ENOSPC, "disk_full", False),
        (errno.EDQUOT, "disk_full", False),
        (errno.EFBIG, "disk_full", False),
        (errno.EACCES, "training_crashed", True),
    ],
)
def test_a_child_that_could_not_be_started_ends_the_attempt(
    number: int, code: str, retry: bool
) -> None:
    end = not_started(OSError(number, "why"))
    assert (end.status, end.code, end.retry) == ("failed", code, retry)
    assert end.message


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 131.07 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_memory_that_ran_out_is_known_by_whatever_says_so(error: Exception) -> None:
    assert exit_codes.exit_code_of(error) == exit_codes.DEVICE_OUT_OF_MEMORY
    assert "per_device_train_batch_size" in SENTENCES[exit_codes.DEVICE_OUT_OF_MEMORY]


def test_other_errors_are_not_taken_for_it() -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    assert exit_codes.exit_code_of(error) == exit_codes.CRASHED
