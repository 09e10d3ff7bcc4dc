"""How a training child tells its supervisor, by exit code, why it ended; knows no training."""

import errno
from typing import Final

from shared.errors import GenPlatError

OK: Final = 0
BAD_SPEC: Final = 64
BAD_DATA: Final = 65
DEVICE_OUT_OF_MEMORY: Final = 69
DISK_FULL: Final = 73
PREEMPTED: Final = 75
CRASHED: Final = 1

# No space, no more of a quota, and a file that may grow no more.
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Preempted(BaseException):
    """Asked from outside to stop; not the run's fault.

    No `Exception`: a signal's handler raises it anywhere, also where all of those mean bad data.
    """


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk or a quota ran out (safetensors wraps the cause in its own error)."""
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return True
    return type(error).__name__ == "SafetensorError" and "No space left" in str(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device's memory ran out (torch's class on GPUs, a plain RuntimeError on CPUs)."""
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return True
    text = str(error)
    # (The last: what the libraries of an NVIDIA GPU say where torch left them nothing.)
    said = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(words in text for words in said)


def exit_code_of(error: BaseException) -> int:
    """The exit code that tells a supervisor why training ended."""
    if isinstance(error, Preempted):
        return PREEMPTED
    if isinstance(error, GenPlatError):
        return BAD_SPEC if error.status in (400, 404) else BAD_DATA
    if is_disk_full(error):
        return DISK_FULL
    return DEVICE_OUT_OF_MEMORY if is_out_of_memory(error) else CRASHED
