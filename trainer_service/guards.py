"""What keeps a training child from outliving those who answer for it; knows no training."""

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from trainer_service.exit_codes import PREEMPTED, Preempted

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "500"


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies. Elsewhere than on Linux the end of
    the dead man's pipe does the same, a moment later."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the call.
    if parent_pid and os.getppid() != parent_pid:
        os._exit(PREEMPTED)


def offer_to_oom_killer() -> None:
    """If memory runs out, this process shall go, not the service; and it leaves no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(_OOM_SCORE)


# What a supervisor writes into its child's stdin, line by line: signs of life, and that what was
# learned is enough. (A signal would reach torchrun, where that is between them, not who trains.)
ENOUGH = b"enough"


def sign_of_life() -> bytes:
    """That the writer lived at this moment of the clock that all processes of a host share: a child
    that takes long to start may read it much later."""
    return b"%.3f" % time.monotonic()


def watch_dead_man(
    descriptor: int, seconds: float, on_enough: Callable[[], None], *, alive_at: float
) -> None:
    """Leave at once when the last sign of life is ``seconds`` old, or the pipe was closed: by then
    another worker may have taken the run, and a checkpoint would be written beside its own.
    ``alive_at``: the moment (`time.monotonic`) that counts as the first sign."""

    def watch() -> None:
        last, rest = alive_at, b""
        while True:
            left = last + seconds - time.monotonic()
            ready, _, _ = select.select([descriptor], [], [], max(0, left))
            said = os.read(descriptor, 4096) if ready else b""
            if not said:
                os._exit(PREEMPTED)
            *lines, rest = (rest + said).split(b"\n")
            for line in lines:
                if line == ENOUGH:
                    on_enough()
                else:
                    last = max(last, float(line))

    threading.Thread(target=watch, name="dead-man", daemon=True).start()


class StopRequest:
    """A SIGTERM: ends the process at once until there is something to save, from then on at the
    next step. ``enough``: what was learned shall be published, and training end."""

    def __init__(self) -> None:
        self.requested = False
        self.deferred = False
        self.enough = False

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self._preempt)

    def _preempt(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True
        if not self.deferred:
            raise Preempted

    def finish(self) -> None:
        self.enough = True

    def check(self) -> None:
        if self.requested:
            raise Preempted
