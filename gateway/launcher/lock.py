"""One GenPlat for each data folder, and where the one that runs can be reached."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from gateway.launcher.problems import LaunchProblem

LOCK_FILE = "genplat.lock"


def _read(path: Path) -> dict[str, Any]:
    try:
        note: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


class StackLock:
    """Held as long as the process lives, however it ends. The file tells who holds it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / LOCK_FILE
        self._descriptor = -1

    def take(self) -> None:
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            holder = _read(self.path)
            where = f" at {holder['url']}" if "url" in holder else ""
            raise LaunchProblem(
                f"GenPlat already runs on {self.root}{where} (process {holder.get('pid', '?')}). "
                "Stop it first, or choose another folder with --data-dir."
            ) from error
        self.note(pid=os.getpid())

    def note(self, **facts: object) -> None:
        """Write what others may want to know of this stack; readable by its owner alone."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(facts).encode(), 0)

    def release(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def running_stack(root: Path) -> dict[str, Any] | None:
    """What the stack that runs on ``root`` noted, or None where none runs."""
    path = root / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return _read(path)
    finally:
        os.close(descriptor)
    return None
