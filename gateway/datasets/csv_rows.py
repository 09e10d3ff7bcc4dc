"""The rows of a CSV file, checked more closely than Python's csv module does."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from gateway.datasets.csv_quotes import look_at_row
from gateway.datasets.lines import MAX_LINE
from gateway.datasets.problems import Problems, shown
from shared.errors import InvalidData

MAX_COLUMNS = 256


class _LineTooLong(Exception):
    pass


@dataclass
class CsvRows:
    """Iterates ``(line, values by column)``. The header is read at the start.

    ``again`` reads the file's lines from the start: to tell what is wrong with a long text, its
    row is looked at once more.
    """

    lines: Iterator[str]
    problems: Problems
    again: Callable[[], Iterator[str]]
    columns: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self._reader = csv.reader(self._whole_lines(), strict=True)
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
        except _LineTooLong as error:
            raise self._too_long() from error

    def _whole_lines(self) -> Iterator[str]:
        for line in self.lines:
            if len(line) > MAX_LINE:
                raise _LineTooLong
            yield line

    def _too_long(self) -> InvalidData:
        limit = csv.field_size_limit()
        found = look_at_row(islice(self.again(), self._line - 1, None), self._line, limit)
        if not found.closed:
            return self._unclosed(found.opened_at)
        said = f"a cell is longer than {limit:,} characters. Shorten or split it."
        if found.opened_at is not None:
            said = (
                f"a quoted text is longer than {limit:,} characters. Shorten or split it, or "
                "close it where its closing double quote is missing."
            )
        return self.problems.fail("field_too_long", said, line=found.opened_at or self._line)

    def _unclosed(self, line: int | None) -> InvalidData:
        return self.problems.fail(
            "unclosed_quote",
            "a quoted text starts here and its closing double quote is missing.",
            line=line,
        )

    def _explain(self, said: str) -> InvalidData:
        if "field limit" in said:
            return self._too_long()
        if "unexpected end" in said:
            row = islice(self.again(), self._line - 1, None)
            return self._unclosed(look_at_row(row, self._line, MAX_LINE).opened_at)
        return self.problems.fail(
            "bad_quote",
            "text follows a closing double quote. A double quote inside a quoted text is written "
            'twice: "".',
            line=self._reader.line_num,
        )
