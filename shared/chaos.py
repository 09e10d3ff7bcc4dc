"""Named points at which a test can have a process stop; without a test they do nothing.

With ``TESTING=1`` the variable ``CHAOS_STAGE`` names a folder. Whatever passes a stage adds a line
to ``passed.jsonl`` there, and does what the file ``NAME`` or ``NAME@ABOUT`` in it says:

kill, stop
    SIGKILL or SIGSTOP to the process itself.
wait
    Stand still until the file ``NAME.hit`` is removed.
raise ERRNO
    An `OSError` of that number.
pause SECONDS
    Sleep; alone of these, each time.

The first to come takes the order: its file becomes ``NAME.hit`` and holds the process id.
"""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

_PASSED = "passed.jsonl"
_WAIT_SECONDS = 0.02


def _stages_folder() -> Path | None:
    folder = os.environ.get("CHAOS_STAGE", "")
    return Path(folder) if folder and os.environ.get("TESTING") == "1" else None


_FOLDER = _stages_folder()


def stage(name: str, about: object = "") -> None:
    """Pass the point ``name``; ``about`` says which one of many, a step for example."""
    if _FOLDER is not None:
        _pass(_FOLDER, name, str(about))


def _pass(folder: Path, name: str, about: str) -> None:
    passed = {"stage": name, "about": about, "pid": os.getpid(), "time": time.monotonic()}
    with contextlib.suppress(OSError), (folder / _PASSED).open("ab", buffering=0) as file:
        file.write(json.dumps(passed).encode() + b"\n")
    # What ``about`` says is an id or a number; a path made of anything else names no order.
    for order in (folder / name, folder / f"{name}@{about.replace('/', '_')}"):
        with contextlib.suppress(FileNotFoundError):
            _obey(order, order.read_text())


def _obey(order: Path, what: str) -> None:
    verb, _, value = what.strip().partition(" ")
    if verb == "pause":
        time.sleep(float(value))
        return
    hit = order.with_name(f"{order.name}.hit")
    order.rename(hit)
    hit.write_text(str(os.getpid()))
    match verb:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "wait":
            while hit.exists():
                time.sleep(_WAIT_SECONDS)
        case "raise":
            raise OSError(int(value), os.strerror(int(value)))
