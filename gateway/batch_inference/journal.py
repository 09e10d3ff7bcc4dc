"""What was answered so far, line by line in a file that outlives any end of its process.

The first line says what the batch is; each other is one row's answer or error. A line that was
torn by a kill is dropped; a row is done when its whole line is on the disk.
"""

import asyncio
import contextlib
import json
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.client import CommandFailed
from gateway.line_files import Facts, LineFile, changed, locked

_NONE = -1
Entry = dict[str, Any]
_CALLED = {
    "rows": "the number of rows",
    "records_sha256": "the rows",
    "model_id": "model",
    "model_sha": "the model's weights",
}


class Journal:
    """An open journal of ``rows`` rows, of which ``done`` are on the disk and ``failed`` of those
    came to nothing; ``damaged`` lines in it tell of no row. Answers go in from one event loop."""

    def __init__(self, file: LineFile, rows: int) -> None:
        self._file = file
        # Where each row's line begins: a number a row, however long the answers are.
        self._places = array("q", [_NONE]) * rows
        self._failed = bytearray(rows)
        self.done = self.failed = self.damaged = 0
        self._waiting: list[Entry] = []
        self._writing = asyncio.Lock()

    def has(self, row: int, *, retry_failed: bool = False) -> bool:
        return self._places[row] != _NONE and not (retry_failed and self._failed[row])

    async def add(self, entry: Entry) -> None:
        """Returns when the entry is on the disk. Those that come meanwhile go together."""
        self._waiting.append(entry)
        async with self._writing:
            entries, self._waiting = self._waiting, []
            if entries:
                await asyncio.to_thread(self._write, entries)

    def entries(self) -> Iterator[Entry]:
        """What is known of each row, in the rows' order. All must be done."""
        for place in self._places:
            yield _parsed(self._file.line_at(place))

    def _write(self, entries: list[Entry]) -> None:
        for entry, place in zip(entries, self._file.append(*entries), strict=True):
            self._note(entry, place)

    def _note(self, entry: Entry, place: int) -> None:
        row, failed = entry["row"], "error" in entry
        self.done += self._places[row] == _NONE
        self.failed += failed - self._failed[row]
        self._places[row], self._failed[row] = place, failed

    def read(self, facts: Facts) -> None:
        """Take up what is there, or begin. `CommandFailed` where it is of another batch."""
        for number, line in enumerate(self._file.lines()):
            if number == 0:
                _check_same(_parsed(line), facts, self._file.path)
            else:
                self._take_up(line)
        self._file.cut(self._file.size)
        if self._file.size == 0:
            self._file.append(facts)

    def _take_up(self, line: bytes) -> None:
        """What cannot be read is asked again."""
        entry = _parsed(line)
        row = entry.get("row")
        if isinstance(row, int) and 0 <= row < len(self._places):
            self._note(entry, self._file.size)
        else:
            self.damaged += 1


@contextlib.contextmanager
def open_journal(path: Path, facts: Facts) -> Iterator[Journal]:
    """The journal at ``path`` of the batch that ``facts`` describe (``rows`` among them)."""
    refusal = f"Another `genplat batch` works on {path}. Wait for it, or choose another name."
    with locked(path, refusal) as descriptor:
        journal = Journal(LineFile(path, descriptor), facts["rows"])
        journal.read(facts)
        yield journal


def _check_same(found: Mapping[str, Any], facts: Facts, path: Path) -> None:
    if keys := [_CALLED.get(key, key) for key in changed(found, facts)]:
        raise CommandFailed(
            f"{path} is of another batch: {', '.join(keys)} changed since. Choose another name "
            "or output_dir, or remove that file to begin anew."
        )


def _parsed(line: bytes) -> Entry:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
