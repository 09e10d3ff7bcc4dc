"""What is wrong with a file, place by place, until it is enough to say so."""

from dataclasses import dataclass, field
from typing import Any, Literal

from shared.errors import InvalidData

MAX_DETAILS = 20
MAX_SKIPPED_DETAILS = 100


@dataclass
class Problems:
    """Collects places; ``add`` raises when there are as many as a person wants to read.

    With ``skip`` it never raises: rows with problems are left out, counted in ``bad_rows``, and
    the first 100 places are kept. ``unit`` says what the number of a row's place counts.
    """

    skip: bool = False
    unit: Literal["line", "row"] = "line"
    details: list[dict[str, Any]] = field(default_factory=list)
    code: str = ""
    count: int = 0
    bad_rows: int = 0
    _last: int | None = None

    @property
    def first_line(self) -> int | None:
        """Where names of columns stand, in files that have lines."""
        return 1 if self.unit == "line" else None

    def add(self, code: str, message: str, *, line: int, column: str | int | None = None) -> None:
        """A problem of one row; ``line`` is its number, which never goes back."""
        self.code = self.code or code
        self.count += 1
        self.bad_rows += line != self._last
        self._last = line
        if len(self.details) < MAX_SKIPPED_DETAILS:
            detail = {"line": line, "column": column, "message": message}
            self.details.append(detail | ({"row": line} if self.unit == "row" else {}))
        if not self.skip and len(self.details) >= MAX_DETAILS:
            raise self.error()

    def fail(
        self, code: str, message: str, *, line: int | None = None, column: str | int | None = None
    ) -> InvalidData:
        """The error for a problem of the whole file, after which reading on makes no sense."""
        if self.skip:
            self.details.clear()
            self.code = ""
        self.code = self.code or code
        self.details.append({"line": line, "column": column, "message": message})
        return self.error()

    def error(self) -> InvalidData:
        first = self.details[0]
        kind = "Row" if "row" in first else "Line"
        place = f"{kind} {first['line']}: " if first["line"] else ""
        more = len(self.details) - 1
        rest = f" ({more} more {'problem' if more == 1 else 'problems'} below.)" if more else ""
        return InvalidData(
            f"{place}{first['message']}{rest}",
            code=self.code,
            param="file",
            details=self.details[:MAX_DETAILS],
        )

    def raise_if_any(self) -> None:
        if self.details:
            raise self.error()


def shown(text: str, limit: int = 40) -> str:
    """A piece of the file as it may stand in a message: short, on one line, printable."""
    text = text if len(text) <= limit else f"{text[:limit]}…"
    return "".join(char if char.isprintable() else "�" for char in text)
