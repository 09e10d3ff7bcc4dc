"""What was answered so far, line by line in a file that outlives any end of its process.

The first line says what the batch is; each other is one row's answer or error. A line that was
torn by a kill is dropped; a row is done when its whole line is on the disk.
"""

import asyncio
import contextlib
import fcntl
import json
import os
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.client import CommandFailed
from shared.storage import sync_directory

_NONE = -1
Entry = dict[str, Any]
Facts = dict[str, Any]
_CALLED = {
    "rows": "the number of rows",
    "records_sha256": "the rows",
    "model_id": "model",
    "model_sha": "the model's weights",
}


class Journal:
    """An open journal of ``rows`` rows, of which ``done`` are on the disk and ``failed`` of those
    came to nothing; ``damaged`` lines in it tell of no row. Answers go in from one event loop."""

    def __init__(self, descriptor: int, path: Path, rows: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._size = 0
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
            yield _parsed(self._line_at(place))

    def _write(self, entries: list[Entry]) -> None:
        lines = [_line(entry) for entry in entries]
        try:
            _write_all(self._descriptor, b"".join(lines))
            os.fsync(self._descriptor)
        except OSError:
            # Half a line must not stand before whole ones.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        for entry, line in zip(entries, lines, strict=True):
            self._note(entry, self._size)
            self._size += len(line)

    def _note(self, entry: Entry, place: int) -> None:
        row, failed = entry["row"], "error" in entry
        self.done += self._places[row] == _NONE
        self.failed += failed - self._failed[row]
        self._places[row], self._failed[row] = place, failed

    def _line_at(self, place: int) -> bytes:
        found = b""
        while not found.endswith(b"\n"):
            block = os.pread(self._descriptor, 64 * 1024, place + len(found))
            if not block:
                break
            end = block.find(b"\n")
            found += block if end < 0 else block[: end + 1]
        return found

    def read(self, facts: Facts) -> None:
        """Take up what is there, or begin. `CommandFailed` where it is of another batch."""
        with open(os.dup(self._descriptor), "rb") as lines:
            first = lines.readline()
            if not first.endswith(b"\n"):
                first = b""
            self._size = len(first)
            if first:
                _check_same(_parsed(first), facts, self.path)
            for line in lines if first else ():
                if not line.endswith(b"\n"):
                    break
                self._take_up(line)
                self._size += len(line)
        os.ftruncate(self._descriptor, self._size)
        if not first:
            line = _line(facts)
            _write_all(self._descriptor, line)
            os.fsync(self._descriptor)
            sync_directory(self.path.parent)
            self._size = len(line)

    def _take_up(self, line: bytes) -> None:
        """What cannot be read is asked again."""
        entry = _parsed(line)
        row = entry.get("row")
        if isinstance(row, int) and 0 <= row < len(self._places):
            self._note(entry, self._size)
        else:
            self.damaged += 1


@contextlib.contextmanager
def open_journal(path: Path, facts: Facts) -> Iterator[Journal]:
    """The journal at ``path`` of the batch that ``facts`` describe (``rows`` among them)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CommandFailed(
                f"Another `genplat batch` works on {path}. Wait for it, or choose another name."
            ) from error
        journal = Journal(descriptor, path, facts["rows"])
        journal.read(facts)
        yield journal
    finally:
        os.close(descriptor)


def _check_same(found: Mapping[str, Any], facts: Facts, path: Path) -> None:
    keys = sorted(found.keys() | facts.keys())
    changed = [_CALLED.get(key, key) for key in keys if found.get(key) != facts.get(key)]
    if changed:
        raise CommandFailed(
            f"{path} is of another batch: {', '.join(changed)} changed since. Choose another name "
            "or output_dir, or remove that file to begin anew."
        )


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _parsed(line: bytes) -> Entry:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
