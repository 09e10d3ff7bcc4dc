"""Becomes another program that dies with its parent: ``python launch.py PARENT_PID PROGRAM ARG…``.

A renderer that hangs reads no end of input, and would outlive a service that was killed.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for the signal, then turn into the program."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the parent has gone")
    os.execv(program, sys.argv[2:])  # noqa: S606


if __name__ == "__main__":
    main()
