"""What keeps a training child from outliving those who answer for it; knows no training."""

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import threading
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


def watch_dead_man(descriptor: int, seconds: float) -> None:
    """Leave at once when nothing came through the pipe for ``seconds``, or it was closed: by then
    another worker may have taken the run, and a checkpoint would be written beside its own."""

    def watch() -> None:
        while True:
            ready, _, _ = select.select([descriptor], [], [], seconds)
            if not ready or not os.read(descriptor, 4096):
                os._exit(PREEMPTED)

    threading.Thread(target=watch, name="dead-man", daemon=True).start()


class StopRequest:
    """A SIGTERM: ends the process at once until there is something to save, from then on at the
    next step. A SIGUSR1: what was learned is enough, training shall end and publish it."""

    def __init__(self) -> None:
        self.requested = False
        self.deferred = False
        self.enough = False

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self._preempt)
        signal.signal(signal.SIGUSR1, self._finish)

    def _preempt(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True
        if not self.deferred:
            raise Preempted

    def _finish(self, _signal: int, _frame: FrameType | None) -> None:
        self.enough = True

    def check(self) -> None:
        if self.requested:
            raise Preempted
