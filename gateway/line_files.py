"""Files of JSON lines that outlive any end of their process: what was appended is on the disk, and
of a line that was torn by a kill nothing is left. Knows not what the lines say."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.client import CommandFailed
from shared.storage import sync_directory

Facts = Mapping[str, Any]


@contextlib.contextmanager
def locked(path: Path, refusal: str) -> Iterator[int]:
    """A descriptor of the file, which is made where it is not there, for one process at a time:
    `CommandFailed` with the ``refusal`` for another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CommandFailed(refusal) from error
        yield descriptor
    finally:
        os.close(descriptor)


class LineFile:
    """An open, locked file. ``size``: of the lines that are known to be whole, in bytes."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor
        self.size = 0

    def lines(self) -> Iterator[bytes]:
        """Those that are whole, from the first; each begins at ``size``."""
        self.size = 0
        with open(self.path, "rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                yield line
                self.size += len(line)

    def cut(self, size: int) -> None:
        """Leave nothing behind the first ``size`` bytes."""
        os.ftruncate(self._descriptor, size)
        self.size = size

    def append(self, *entries: Mapping[str, Any]) -> list[int]:
        """Where each line begins. They are on the disk then; where there is no room (OSError) it is
        as if nothing had been appended."""
        begin, is_new = self.size, self.size == 0
        lines = [json.dumps(entry).encode() + b"\n" for entry in entries]
        content = b"".join(lines)
        try:
            while content:
                content = content[os.write(self._descriptor, content) :]
            os.fsync(self._descriptor)
        except OSError:
            # Half a line must not stand before whole ones.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, begin)
            raise
        places = []
        for line in lines:
            places.append(self.size)
            self.size += len(line)
        if is_new:
            sync_directory(self.path.parent)
        return places

    def line_at(self, place: int) -> bytes:
        found = b""
        while not found.endswith(b"\n"):
            block = os.pread(self._descriptor, 64 * 1024, place + len(found))
            if not block:
                break
            end = block.find(b"\n")
            found += block if end < 0 else block[: end + 1]
        return found


def changed(found: Facts, facts: Facts) -> list[str]:
    """Under which keys they differ."""
    keys = sorted(found.keys() | facts.keys())
    return [key for key in keys if found.get(key) != facts.get(key)]
