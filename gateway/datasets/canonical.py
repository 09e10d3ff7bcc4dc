"""Reads an uploaded file once, checks all of it and writes the canonical records."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.datasets.formats import AS_FOUND, Columns, Form, choose_format, to_record
from gateway.datasets.problems import Problems, shown
from gateway.datasets.sniff import file_type, refuse_array, refuse_binary
from gateway.datasets.tables import Rows, open_table, problems_for
from shared.datasets import Record
from shared.errors import TooLarge

MAX_ROWS = 1_000_000
LONG_ROW = 8_000
FEW_ROWS = 10
# Hashes of rows are kept in memory to find duplicates: 250,000 take about 20 MB.
MAX_HASHES = 250_000
_PLACEHOLDERS = frozenset({"n/a", "na", "nan", "null", "none", "-", "--", "?", "tbd", "#n/a"})
Choose = Callable[..., Form]


@dataclass(frozen=True)
class Checked:
    """What was found in a file. ``problems`` are the places of the first rows that were left
    out, where that was asked for; without it, there are none."""

    file_type: str
    format: str
    columns: list[str]
    mapping: dict[str, str]
    rows: int
    warnings: list[str]
    skipped_rows: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Findings:
    """What is worth a warning."""

    form: Form
    columns: list[str]
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
            (
                self.long,
                f"{_rows(self.long)} longer than {LONG_ROW:,} characters; a check before training "
                "tells whether they fit.",
            ),
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
    named: Columns = AS_FOUND,
    skip_bad_rows: bool = False,
    max_rows: int = MAX_ROWS,
    choose: Choose = choose_format,
) -> Checked:
    """Write ``source``'s records to ``records``, or raise with the places that are wrong.

    With ``skip_bad_rows``, rows that are wrong are left out; what is wrong with the whole file
    still raises. ``choose`` says which form the columns have.
    """
    refuse_binary(source, filename)
    kind = file_type(source, filename)
    if kind == "jsonl":
        refuse_array(source)
    problems = problems_for(kind, skip=skip_bad_rows)
    with open_table(source, kind, problems) as table:
        form = choose(table.columns, named, nested=table.nested, problems=problems)
        findings = _Findings(form, table.columns)
        _convert(_limited(table.rows, max_rows), records, findings, problems)
    if not findings.rows:
        problems.raise_if_any()
        said = "there are columns and no row below them."
        raise problems.fail("no_rows", said, line=problems.first_line)
    return Checked(
        file_type=kind,
        format=form.name,
        columns=table.columns,
        mapping={use: name for use, name in form.mapping.items() if name in table.columns},
        rows=findings.rows,
        warnings=findings.warnings(),
        skipped_rows=problems.bad_rows,
        problems=problems.details,
    )


def _limited(rows: Rows, max_rows: int) -> Rows:
    for count, row in enumerate(rows):
        if count >= max_rows:
            raise TooLarge(
                f"The file has more than {max_rows:,} rows. Split it.",
                code="too_many_rows",
                param="file",
            )
        yield row


def _convert(rows: Rows, records: Path, findings: _Findings, problems: Problems) -> None:
    with records.open("wb") as out:
        for line, values in rows:
            record = to_record(values, findings.form, line=line, problems=problems)
            # After a first fault nothing is kept; the rest is read to tell of further ones.
            if record is not None and (problems.skip or not problems.count):
                text = record.model_dump_json(exclude_none=True).encode() + b"\n"
                out.write(text)
                findings.note(record, text)
    if not problems.skip:
        problems.raise_if_any()
