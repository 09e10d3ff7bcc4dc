"""What is in a file that is no dataset yet: its columns, its form, its first rows and problems."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from gateway.datasets.formats import AS_FOUND, Columns, Form, choose_format, to_record
from gateway.datasets.preview import first_rows
from gateway.datasets.problems import Problems
from gateway.datasets.sniff import file_type, refuse_array, refuse_binary
from gateway.datasets.tables import Rows, open_table, problems_for
from shared.errors import InvalidData

MAX_ROWS = 10_000
_SHOWN = 5


@dataclass(frozen=True)
class Inspection:
    """``format`` is None where no form is recognised; then ``message`` says why. Problems are
    those of the first 10,000 rows, of which ``bad_rows`` were wrong."""

    file_type: str
    columns: list[str]
    format: str | None
    mapping: dict[str, str]
    message: str | None
    preview: list[dict[str, str]]
    rows_checked: int
    bad_rows: int
    problems: list[dict[str, Any]]


def inspect_file(path: Path, filename: str, named: Columns = AS_FOUND) -> Inspection:
    """Look at the beginning of a file. What is wrong with all of it raises, as in an upload."""
    refuse_binary(path, filename)
    kind = file_type(path, filename)
    if kind == "jsonl":
        refuse_array(path)
    problems = problems_for(kind, skip=True)
    message, form, good = None, None, 0
    with open_table(path, kind, problems) as table:
        try:
            form = choose_format(
                table.columns, named, nested=table.nested, problems=problems_for(kind)
            )
        except InvalidData as error:
            message = str(error.details[0]["message"])
        good = _good_rows(table.rows, form, problems)
    mapping = form.mapping if form else {}
    return Inspection(
        file_type=kind,
        columns=table.columns,
        format=form.name if form else None,
        mapping={use: name for use, name in mapping.items() if name in table.columns},
        message=message,
        preview=first_rows(path, kind, _SHOWN),
        rows_checked=good + problems.bad_rows,
        bad_rows=problems.bad_rows,
        problems=problems.details,
    )


def _good_rows(rows: Rows, form: Form | None, problems: Problems) -> int:
    return sum(
        form is None or to_record(values, form, line=line, problems=problems) is not None
        for line, values in islice(rows, MAX_ROWS)
    )
