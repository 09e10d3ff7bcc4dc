"""Reads an uploaded file once, checks all of it and writes the canonical records."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from gateway.datasets.csv_rows import CsvRows
from gateway.datasets.formats import Format, choose_format, to_record
from gateway.datasets.jsonl_rows import jsonl_rows
from gateway.datasets.lines import read_lines
from gateway.datasets.problems import Problems, shown
from gateway.datasets.sniff import file_type, refuse_array, refuse_binary
from shared.datasets import Record
from shared.errors import TooLarge

MAX_ROWS = 1_000_000
LONG_ROW = 8_000
FEW_ROWS = 10
# Hashes of rows are kept in memory to find duplicates: 250,000 take about 20 MB.
MAX_HASHES = 250_000
_PLACEHOLDERS = frozenset({"n/a", "na", "nan", "null", "none", "-", "--", "?", "tbd", "#n/a"})

Rows = Iterable[tuple[int, dict[str, Any]]]


@dataclass(frozen=True)
class Checked:
    """What was found in a file without a fault."""

    file_type: str
    format: str
    columns: list[str]
    rows: int
    warnings: list[str]


@dataclass
class _Findings:
    """What is worth a warning."""

    form: Format
    columns: list[str]
    max_rows: int
    rows: int = 0
    duplicates: int = 0
    placeholders: int = 0
    long: int = 0
    hashes: set[int] = field(default_factory=set)

    def note(self, record: Record, line: bytes) -> None:
        self.rows += 1
        self.long += sum(len(message.content) for message in record.messages) > LONG_ROW
        self.placeholders += record.completion.strip().lower() in _PLACEHOLDERS
        digest = int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "big")
        if digest in self.hashes:
            self.duplicates += 1
        elif len(self.hashes) < MAX_HASHES:
            self.hashes.add(digest)

    def warnings(self) -> list[str]:
        unused = [shown(name) or "(no name)" for name in self.columns if name not in self.form.used]
        found = (
            (self.rows < FEW_ROWS, f"There are only {self.rows} rows: too few to learn much from."),
            (self.duplicates, f"{_rows(self.duplicates)} seen before in this file."),
            (self.placeholders, f"{_rows(self.placeholders)} answered by a placeholder (N/A, -)."),
            (self.long, f"{_rows(self.long)} longer than {LONG_ROW:,} characters and may be cut."),
            (unused, f"These columns are not used: {', '.join(unused[:10])}."),
        )
        return [text for is_so, text in found if is_so]


def _rows(count: int) -> str:
    return "1 row is" if count == 1 else f"{count:,} rows are"


def check_file(
    source: Path,
    records: Path,
    *,
    filename: str,
    text_column: str | None = None,
    target_column: str | None = None,
    max_rows: int = MAX_ROWS,
) -> Checked:
    """Write ``source``'s records to ``records``, or raise with the places that are wrong."""
    refuse_binary(source)
    problems = Problems()
    kind = file_type(source, filename)
    if kind == "jsonl":
        refuse_array(source)
    with closing(read_lines(source, problems)) as lines:
        if kind == "csv":
            table = CsvRows(lines, problems)
            columns, rows = table.columns, iter(table)
        else:
            columns, rows = _peek(jsonl_rows(lines, problems), problems)
        form = choose_format(
            columns,
            text_column=text_column,
            target_column=target_column,
            with_messages=kind == "jsonl",
            problems=problems,
        )
        findings = _Findings(form, columns, max_rows)
        _convert(rows, records, findings, problems)
    problems.raise_if_any()
    if not findings.rows:
        raise problems.fail("no_rows", "there is a header and no row below it.", line=1)
    return Checked(kind, form.name, columns, findings.rows, findings.warnings())


def _peek(rows: Iterator[tuple[int, dict[str, Any]]], problems: Problems) -> tuple[list[str], Any]:
    """The keys of the first object, and all objects."""
    first = next(rows, None)
    if first is None:
        problems.raise_if_any()
        raise problems.fail("empty_file", "the file is empty.")
    return list(first[1]), chain([first], rows)


def _convert(rows: Rows, records: Path, findings: _Findings, problems: Problems) -> None:
    with records.open("wb") as out:
        for line, values in rows:
            if findings.rows >= findings.max_rows:
                raise TooLarge(
                    f"The file has more than {findings.max_rows:,} rows. Split it.",
                    code="too_many_rows",
                    param="file",
                )
            record = to_record(values, findings.form, line=line, problems=problems)
            # After a first fault nothing is kept; the rest is read to tell of further ones.
            if record is not None and not problems.details:
                text = record.model_dump_json(exclude_none=True).encode() + b"\n"
                out.write(text)
                findings.note(record, text)
