"""What a synthesis from the command line has done so far, in a file that outlives any end of its
process: a `Store` for `work.produce`. A line that was torn by a kill is dropped."""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway.client import CommandFailed
from gateway.synthesis.filtering import Drop
from gateway.synthesis.pairs import Pair
from gateway.synthesis.work import Answer, Row

Facts = dict[str, Any]


class Journal:
    """An open journal; the first line says of what."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._answers: dict[int, Answer] = {}
        self._rows: dict[int, Row] = {}
        self._writing = asyncio.Lock()

    async def answers(self) -> Mapping[int, Answer]:
        return self._answers

    async def rows(self) -> Sequence[Row]:
        return [self._rows[number] for number in sorted(self._rows)]

    async def keep_answer(self, number: int, answer: Answer) -> None:
        await self._write({"answer": number, **asdict(answer)})
        self._answers[number] = answer

    async def keep_rows(self, rows: Sequence[Row]) -> None:
        await self._write({"rows": [asdict(row) for row in rows]})
        self._rows |= {row.number: row for row in rows}

    async def _write(self, entry: Mapping[str, Any]) -> None:
        async with self._writing:
            await asyncio.to_thread(self._append, entry)

    def _append(self, entry: Mapping[str, Any]) -> None:
        size = os.fstat(self._descriptor).st_size
        content = json.dumps(entry).encode() + b"\n"
        try:
            while content:
                content = content[os.write(self._descriptor, content) :]
            os.fsync(self._descriptor)
        except OSError:
            # Half a line must not stand before whole ones.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise

    def read(self, facts: Facts, path: Path) -> None:
        """Take up what is there, or begin. `CommandFailed` where it is of something else."""
        size = 0
        with open(os.dup(self._descriptor), "rb") as lines:
            for number, line in enumerate(lines):
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = json.loads(line)
                    if number == 0:
                        _check_same(entry, facts, path)
                    else:
                        self._take_up(entry)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise CommandFailed(
                        f"Line {number + 1} of {path} is damaged. Choose another name, or remove "
                        "the file to begin anew."
                    ) from error
                size += len(line)
        os.ftruncate(self._descriptor, size)
        if size == 0:
            self._append(facts)

    def _take_up(self, entry: dict[str, Any]) -> None:
        if "answer" in entry:
            number = entry.pop("answer")
            self._answers[number] = Answer(**entry)
            return
        for row in entry["rows"]:
            drop = Drop(**row["drop"]) if row["drop"] else None
            known = Row(**row | {"pair": Pair(**row["pair"]), "drop": drop})
            self._rows[known.number] = known


@contextlib.contextmanager
def open_journal(path: Path, facts: Facts) -> Iterator[Journal]:
    """The journal at ``path`` of the synthesis that ``facts`` describe."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CommandFailed(
                f"Another `genplat synthesize` works on {path}. Wait for it, or choose another "
                "name."
            ) from error
        journal = Journal(descriptor)
        journal.read(facts, path)
        yield journal
    finally:
        os.close(descriptor)


def _check_same(found: Mapping[str, Any], facts: Facts, path: Path) -> None:
    keys = sorted(found.keys() | facts.keys())
    if changed := [key for key in keys if found.get(key) != facts.get(key)]:
        raise CommandFailed(
            f"{path} is of something else: {', '.join(changed)} changed since. Choose another "
            "name or output_dir, or remove that file to begin anew."
        )
