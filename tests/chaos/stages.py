"""Orders for `shared.chaos`: has processes stop at named points, and waits until they did."""

import contextlib
import json
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.times import BUSY_SECONDS

_LONG = 2 * BUSY_SECONDS


@dataclass(frozen=True)
class Hit:
    """A process that came to a stage and did there what it was told."""

    file: Path
    pid: int

    def release(self) -> None:
        """Let a process go on that waits."""
        self.file.unlink(missing_ok=True)


class Stages:
    """The folder that CHAOS_STAGE names."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder

    def order(self, stage: str, what: str) -> None:
        """``stage``: a name, or ``NAME@ABOUT``; ``what``: see `shared.chaos`."""
        (self.folder / f"{stage}.hit").unlink(missing_ok=True)
        written = self.folder / f".{stage}"
        written.write_text(what)
        written.rename(self.folder / stage)

    def withdraw(self, stage: str) -> None:
        (self.folder / stage).unlink(missing_ok=True)
        (self.folder / f"{stage}.hit").unlink(missing_ok=True)

    def clear(self) -> None:
        for file in self.folder.iterdir():
            if file.name != "passed.jsonl":
                file.unlink(missing_ok=True)

    def wait(self, stage: str, seconds: float = BUSY_SECONDS) -> Hit:
        """Until somebody carried the order out."""
        file = self.folder / f"{stage}.hit"
        deadline = time.monotonic() + seconds
        while not (text := file.read_text() if file.is_file() else ""):
            assert time.monotonic() < deadline, f"nobody came to the stage {stage}"
            time.sleep(0.02)
        return Hit(file, int(text))

    def wait_passed(
        self, stage: str, after: float, *, but: Collection[int] = (), seconds: float = _LONG
    ) -> float:
        """Until somebody else than these passes a stage after a moment; when that was."""
        deadline = time.monotonic() + seconds
        while True:
            for line in self.passed(stage):
                if line["time"] > after and line["pid"] not in but:
                    return float(line["time"])
            assert time.monotonic() < deadline, f"nobody passed the stage {stage}"
            time.sleep(0.1)

    def passed(self, *names: str) -> list[dict[str, Any]]:
        """Who passed these stages, in order."""
        passed = Tail(self.folder / "passed.jsonl").more()
        return [line for line in passed if line["stage"] in names]


class Tail:
    """The lines of a growing file of JSON, each once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0

    def more(self) -> Iterator[dict[str, Any]]:
        """What came since the last time; a line that is not whole yet comes next time."""
        if not self._file.is_file():
            return
        with self._file.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                # Half a line and a whole one: the writer of the first was killed.
                with contextlib.suppress(ValueError):
                    yield json.loads(line)
