"""What an evaluation from the command line was answered so far, in a file that outlives any end of
its process. The first line says what was asked of whom; each other is an answer, of one that stands
there twice the later one. A line that was torn by a kill is dropped."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from gateway.client import CommandFailed
from gateway.line_files import Facts, LineFile, changed, locked
from gateway.tables import EvaluationAnswer
from shared.errors import InvalidRequest


class Journal:
    """An open journal. ``answers`` by candidate and place, those that came to nothing left out."""

    def __init__(self, file: LineFile) -> None:
        self._file = file
        self._writing = asyncio.Lock()
        self.answers: dict[tuple[int, int], EvaluationAnswer] = {}

    async def keep(self, answer: EvaluationAnswer) -> None:
        """Returns when the answer is on the disk."""
        entry = answer.model_dump(mode="json", exclude={"created_at", "scores"})
        async with self._writing:
            await asyncio.to_thread(self._file.append, entry)
        self.answers[answer.candidate, answer.place] = answer

    def read(self, facts: Facts) -> None:
        """Take up what is there, or begin; what holds no answer is begun anew."""
        found: Facts = {}
        for number, line in enumerate(self._file.lines()):
            try:
                entry = json.loads(line)
                if number == 0:
                    found = dict(entry)
                else:
                    self._take_up(EvaluationAnswer(**entry))
            except (ValueError, TypeError, AttributeError) as error:
                raise CommandFailed(
                    f"Line {number + 1} of {self._file.path} is damaged. Name another output_dir, "
                    "or remove that file to begin anew."
                ) from error
        if self.answers:
            _check_same(found, facts, self._file.path)
            self._file.cut(self._file.size)
        else:
            self._file.cut(0)
            self._file.append(facts)

    def _take_up(self, answer: EvaluationAnswer) -> None:
        if answer.error is None or answer.refused:
            self.answers[answer.candidate, answer.place] = answer


@contextlib.contextmanager
def open_journal(path: Path, facts: Facts) -> Iterator[Journal]:
    """The journal at ``path`` of the evaluation that ``facts`` describe; InvalidRequest where it is
    of another one."""
    refusal = (
        f"Another `genplat evaluate` works on {path}. Wait for it, or name another output_dir."
    )
    with locked(path, refusal) as descriptor:
        journal = Journal(LineFile(path, descriptor))
        journal.read(facts)
        yield journal


def _check_same(found: Facts, facts: Facts, path: Path) -> None:
    if keys := changed(found, facts):
        raise InvalidRequest(
            f"output_dir: {path} holds the answers of another evaluation: {', '.join(keys)} "
            "changed since. Name another folder, or remove that file to begin anew.",
            param="output_dir",
        )
