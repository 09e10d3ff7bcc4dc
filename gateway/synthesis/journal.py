"""What a synthesis from the command line has done so far, in a file that outlives any end of its
process: a `Store` for `work.produce`. A line that was torn by a kill is dropped."""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway.client import CommandFailed
from gateway.line_files import Facts, LineFile, changed, locked
from gateway.synthesis.filtering import Drop
from gateway.synthesis.pairs import Pair
from gateway.synthesis.work import Answer, Row


class Journal:
    """An open journal; the first line says of what."""

    def __init__(self, file: LineFile) -> None:
        self._file = file
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
            await asyncio.to_thread(self._file.append, entry)

    def read(self, facts: Facts) -> None:
        """Take up what is there, or begin. `CommandFailed` where it is of something else."""
        path = self._file.path
        for number, line in enumerate(self._file.lines()):
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
        self._file.cut(self._file.size)
        if self._file.size == 0:
            self._file.append(facts)

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
    refusal = f"Another `genplat synthesize` works on {path}. Wait for it, or choose another name."
    with locked(path, refusal) as descriptor:
        journal = Journal(LineFile(path, descriptor))
        journal.read(facts)
        yield journal


def _check_same(found: Mapping[str, Any], facts: Facts, path: Path) -> None:
    if keys := changed(found, facts):
        raise CommandFailed(
            f"{path} is of something else: {', '.join(keys)} changed since. Choose another "
            "name or output_dir, or remove that file to begin anew."
        )
