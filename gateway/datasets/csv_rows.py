"""The rows of a CSV file, checked more closely than Python's csv module does."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.datasets.lines import LineTooLong
from gateway.datasets.problems import Problems, shown
from shared.errors import InvalidData

MAX_COLUMNS = 256


@dataclass
class CsvRows:
    """Iterates ``(line, values by column)``. The header is read at the start."""

    lines: Iterator[str]
    problems: Problems
    columns: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self._reader = csv.reader(self.lines, strict=True)
        self._line = 1
        self.columns = self._header()

    def __iter__(self) -> Iterator[tuple[int, dict[str, str]]]:
        while (cells := self._next()) is not None:
            if not cells:
                continue
            if len(cells) != len(self.columns):
                self.problems.add(
                    "column_count",
                    f"{len(cells)} columns where the header has {len(self.columns)}. A text that "
                    "holds a comma or a line break must stand in double quotes.",
                    line=self._line,
                )
                continue
            yield self._line, dict(zip(self.columns, cells, strict=True))

    def _header(self) -> list[str]:
        while (cells := self._next()) is not None:
            if cells and any(cell.strip() for cell in cells):
                break
        if cells is None:
            raise self.problems.fail("empty_file", "the file is empty.")
        if len(cells) > MAX_COLUMNS:
            raise self.problems.fail(
                "too_many_columns",
                f"the header has {len(cells)} columns; at most {MAX_COLUMNS} are read.",
                line=self._line,
            )
        seen: set[str] = set()
        for name in cells:
            if name in seen:
                raise self.problems.fail(
                    "duplicate_column",
                    f"the column {shown(name)!r} is there twice. Rename or remove one.",
                    line=self._line,
                    column=shown(name),
                )
            seen.add(name)
        return cells

    def _next(self) -> list[str] | None:
        """The next row's cells; an empty list for a blank line, None at the end."""
        self._line = self._reader.line_num + 1
        try:
            return next(self._reader, None)
        except csv.Error as error:
            raise self._explain(str(error)) from error
        except LineTooLong as error:
            raise self._too_long(error.line) from error

    def _too_long(self, line: int) -> InvalidData:
        limit = f"longer than {csv.field_size_limit():,} characters"
        said = f"a cell is {limit}. Shorten or split it."
        if line > self._line:
            # Only quotes reach over lines; whether they are closed further on was not read.
            said = (
                f"a quoted text in this row is {limit}, or its closing double quote is missing. "
                "Shorten or split it, or close it."
            )
        return self.problems.fail("field_too_long", said, line=self._line)

    def _explain(self, said: str) -> InvalidData:
        if "field limit" in said:
            return self._too_long(self._reader.line_num)
        if "unexpected end" in said:
            return self.problems.fail(
                "unclosed_quote",
                "a quoted text starts here and its closing double quote is missing.",
                line=self._line,
            )
        return self.problems.fail(
            "bad_quote",
            "text follows a closing double quote. A double quote inside a quoted text is written "
            'twice: "".',
            line=self._reader.line_num,
        )
