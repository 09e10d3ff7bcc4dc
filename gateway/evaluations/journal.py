"""What an evaluation from the command line was answered so far, in a file that outlives any end of
its process. The first line says what was asked of whom; each other is an answer, of one that stands
there twice the later one. A line that was torn by a kill is dropped."""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.client import CommandFailed
from gateway.tables import EvaluationAnswer
from shared.errors import InvalidRequest

Facts = dict[str, Any]


class Journal:
    """An open journal. ``answers`` by candidate and place, those that came to nothing left out."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._writing = asyncio.Lock()
        self.answers: dict[tuple[int, int], EvaluationAnswer] = {}

    async def keep(self, answer: EvaluationAnswer) -> None:
        """Returns when the answer is on the disk."""
        entry = answer.model_dump(mode="json", exclude={"created_at", "scores"})
        async with self._writing:
            await asyncio.to_thread(self._append, entry)
        self.answers[answer.candidate, answer.place] = answer

    def _append(self, entry: Facts) -> None:
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
        """Take up what is there, or begin; what holds no answer is begun anew."""
        size, found = 0, Facts()
        with open(os.dup(self._descriptor), "rb") as lines:
            for number, line in enumerate(lines):
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = json.loads(line)
                    if number == 0:
                        found = dict(entry)
                    else:
                        self._take_up(EvaluationAnswer(**entry))
                except (ValueError, TypeError, AttributeError) as error:
                    raise CommandFailed(
                        f"Line {number + 1} of {path} is damaged. Name another output_dir, or "
                        "remove that file to begin anew."
                    ) from error
                size += len(line)
        if self.answers:
            _check_same(found, facts, path)
        os.ftruncate(self._descriptor, size if self.answers else 0)
        if not self.answers:
            self._append(facts)

    def _take_up(self, answer: EvaluationAnswer) -> None:
        if answer.error is None or answer.refused:
            self.answers[answer.candidate, answer.place] = answer


@contextlib.contextmanager
def open_journal(path: Path, facts: Facts) -> Iterator[Journal]:
    """The journal at ``path`` of the evaluation that ``facts`` describe; InvalidRequest where it is
    of another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CommandFailed(
                f"Another `genplat evaluate` works on {path}. Wait for it, or name another "
                "output_dir."
            ) from error
        journal = Journal(descriptor)
        journal.read(facts, path)
        yield journal
    finally:
        os.close(descriptor)


def _check_same(found: Facts, facts: Facts, path: Path) -> None:
    changed = [key for key in sorted(found.keys() | facts) if found.get(key) != facts.get(key)]
    if changed:
        raise InvalidRequest(
            f"output_dir: {path} holds the answers of another evaluation: {', '.join(changed)} "
            "changed since. Name another folder, or remove that file to begin anew.",
            param="output_dir",
        )
