"""The merged log: every service's lines, each after its service's name."""

import contextlib
import logging
import os
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

MAX_LINE = 8192
_COLOURS = {"valkey": 35, "gateway": 36, "trainer": 33, "inference": 32, "genplat": 34}
_OTHER_COLOUR = 37


class _QuietFile(RotatingFileHandler):
    """A log file whose disk may be full: the services go on without it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002
        return


def wants_colour(stream: TextIO) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


class MergedLog:
    """Lines from several threads, to a file and, where given, to a terminal."""

    def __init__(self, folder: Path, console: TextIO | None) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / "genplat.log"
        self._file = _QuietFile(
            self.path, maxBytes=10 * 1024**2, backupCount=3, encoding="utf-8", delay=True
        )
        self._console = console
        self._colour = console is not None and wants_colour(console)
        self._lock = threading.Lock()
        self._closed = False

    def write(self, name: str, line: str) -> None:
        # Of a progress bar that was drawn over and over, the last state.
        line = line.rstrip().rpartition("\r")[2][:MAX_LINE]
        record = logging.LogRecord(name, logging.INFO, "", 0, f"{name:<9} | {line}", (), None)
        with self._lock:
            if not self._closed:  # a last line may come late; the file would be opened again
                self._file.handle(record)
        self._show(f"{self._coloured(name)} | {line}\n")

    def say(self, text: str) -> None:
        """For the person at the terminal alone: never in the file (it may hold a login link)."""
        self._show(text + "\n")

    def _coloured(self, name: str) -> str:
        padded = f"{name:<9}"
        if not self._colour:
            return padded
        return f"\x1b[{_COLOURS.get(name, _OTHER_COLOUR)}m{padded}\x1b[0m"

    def _show(self, text: str) -> None:
        with self._lock:
            if self._console is None:
                return
            try:
                self._console.write(text)
                self._console.flush()
            except (OSError, ValueError):
                # The terminal or pipe is gone; the services need not go with it.
                self._console = None

    def close(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._closed = True
            self._file.close()
