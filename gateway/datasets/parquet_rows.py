"""The rows of a Parquet file, which another process reads; this one never loads pyarrow."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gateway.datasets.jsonl_rows import STRICT
from gateway.datasets.problems import Problems

# What Python needs to start and to find GenPlat; no secret is among them.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONSAFEPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
# Threads and arenas reserve addresses, which count against the limit of the process.
_FRUGAL = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
}


@contextmanager
def parquet_table(
    path: Path, problems: Problems
) -> Iterator[tuple[list[str], Iterator[tuple[int, dict[str, Any]]]]]:
    """The names of the columns, and ``(row, values by column)`` counted from 1."""
    if not path.is_file():
        raise FileNotFoundError(path)
    known = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.datasets.parquet_process", str(path)],
        env=known | _FRUGAL,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )
    with process:
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            columns = _next(process.stdout, problems)
            yield columns, _rows(process.stdout, columns, problems)
        finally:
            process.kill()


def _rows(
    lines: IO[str], columns: list[str], problems: Problems
) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    while (values := _next(lines, problems)) is not None:
        number += 1
        if isinstance(values, str):
            problems.add("line_too_long", values, line=number)
        else:
            yield number, dict(zip(columns, values, strict=True))


def _next(lines: IO[str], problems: Problems) -> Any:
    """What the process wrote next, or the error that it ended with."""
    try:
        found = STRICT.decode(lines.readline())
    except json.JSONDecodeError:
        # It fell: its last line is missing or cut off.
        found = {
            "code": "bad_parquet",
            "message": "the Parquet file is damaged, or takes too much time or memory to read.",
        }
    if isinstance(found, dict):
        raise problems.fail(found["code"], found["message"])
    return found
