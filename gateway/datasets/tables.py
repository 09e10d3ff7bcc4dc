"""The columns and rows of a file of any type that is accepted, one row at a time."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from gateway.datasets.csv_rows import CsvRows
from gateway.datasets.json_rows import json_rows
from gateway.datasets.jsonl_rows import jsonl_rows
from gateway.datasets.lines import read_lines
from gateway.datasets.parquet_rows import parquet_table
from gateway.datasets.problems import Problems

Rows = Iterator[tuple[int, dict[str, Any]]]


@dataclass(frozen=True)
class Table:
    """``columns`` are those of the first row; ``nested``: cells may hold lists and objects."""

    columns: list[str]
    rows: Rows
    nested: bool


def problems_for(file_type: str, *, skip: bool = False) -> Problems:
    """Rows of text files have the number of their line; others are counted."""
    return Problems(skip=skip, unit="line" if file_type in ("csv", "jsonl") else "row")


@contextmanager
def open_table(
    path: Path, file_type: str, problems: Problems, *, check_text: bool = True
) -> Iterator[Table]:
    """Rows that cannot be read go to ``problems``. ``check_text`` False lets texts pass that UTF-8
    cannot hold."""
    if file_type == "parquet":
        with parquet_table(path, problems) as (columns, rows):
            yield Table(columns, rows, nested=True)
    elif file_type == "json":
        with closing(json_rows(path, problems, check_text=check_text)) as objects:
            yield _peeked(objects, problems)
    else:
        with closing(read_lines(path, problems)) as lines:
            if file_type == "csv":
                table = CsvRows(lines, problems, lambda: read_lines(path, problems))
                yield Table(table.columns, iter(table), nested=False)
            else:
                yield _peeked(jsonl_rows(lines, problems, check_text=check_text), problems)


def _peeked(rows: Rows, problems: Problems) -> Table:
    first = next(rows, None)
    if first is None:
        problems.raise_if_any()
        raise problems.fail("empty_file", "the file is empty.")
    return Table(list(first[1]), chain([first], rows), nested=True)
