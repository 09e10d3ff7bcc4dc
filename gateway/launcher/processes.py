"""Child processes that die with their parent, and with all of their own group."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: loading a library between fork and exec may block for ever.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def dying_with(parent: int) -> Callable[[], None]:
    """What a child does before it begins, for the system to kill it when its parent dies."""

    def in_child() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # the parent died before the line above
                os._exit(1)

    return in_child


def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    on_line: Callable[[str], None],
    stdin: bytes | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own; each line it prints goes to ``on_line``.

    Where the system knows how (Linux), it is killed when this process dies. That is bound to the
    calling thread: call it from one that lives as long as the process.
    """
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        start_new_session=True,
        preexec_fn=dying_with(os.getpid()),
    )
    if stdin is not None and process.stdin is not None:
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(stdin)
    threading.Thread(target=_read_lines, args=(process, on_line), daemon=True).start()
    return process


def _read_lines(process: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> None:
    assert process.stdout is not None  # noqa: S101
    with process.stdout as lines:
        for line in lines:
            on_line(line.decode(errors="replace"))


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and whatever it left behind in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _parents() -> dict[int, tuple[int, str]]:
    """Every process's parent and start time (Linux; empty elsewhere)."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            # The command's name stands in parentheses and may hold spaces.
            fields = stat.read_text().rpartition(")")[2].split()
            found[int(stat.parent.name)] = (int(fields[1]), fields[19])
    return found


def descendants(roots: Iterable[int]) -> set[tuple[int, str]]:
    """Children of ``roots`` and theirs, as (process id, start time): an id alone may be reused."""
    parents, generation = _parents(), set(roots)
    family: set[tuple[int, str]] = set()
    while generation:
        generation = {child for child, (parent, _) in parents.items() if parent in generation}
        family |= {(child, parents[child][1]) for child in generation}
    return family


def kill_survivors(family: set[tuple[int, str]]) -> None:
    """Kill those of ``family`` that still live: they left their group and their parent is gone."""
    parents = _parents()
    for process_id, started in family:
        if process_id in parents and parents[process_id][1] == started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process_id, signal.SIGKILL)


def reap_adopted(own: set[int]) -> None:
    """As the first process of a container: collect the ended ones that became our children."""
    for child, (parent, _) in _parents().items():
        if parent == os.getpid() and child not in own:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)
