"""What is wrong with a file, place by place, until it is enough to say so."""

from dataclasses import dataclass, field
from typing import Any

from shared.errors import InvalidData

MAX_DETAILS = 20


@dataclass
class Problems:
    """Collects places; ``add`` raises when there are as many as a person wants to read."""

    details: list[dict[str, Any]] = field(default_factory=list)
    code: str = ""

    def add(
        self, code: str, message: str, *, line: int | None = None, column: str | int | None = None
    ) -> None:
        self.code = self.code or code
        self.details.append({"line": line, "column": column, "message": message})
        if len(self.details) >= MAX_DETAILS:
            raise self.error()

    def fail(
        self, code: str, message: str, *, line: int | None = None, column: str | int | None = None
    ) -> InvalidData:
        """The error for a problem after which reading on makes no sense."""
        self.code = self.code or code
        self.details.append({"line": line, "column": column, "message": message})
        return self.error()

    def error(self) -> InvalidData:
        first = self.details[0]
        place = f"Line {first['line']}: " if first["line"] else ""
        more = len(self.details) - 1
        rest = f" ({more} more {'problem' if more == 1 else 'problems'} below.)" if more else ""
        return InvalidData(
            f"{place}{first['message']}{rest}", code=self.code, param="file", details=self.details
        )

    def raise_if_any(self) -> None:
        if self.details:
            raise self.error()


def shown(text: str, limit: int = 40) -> str:
    """A piece of the file as it may stand in a message: short, on one line, printable."""
    text = text if len(text) <= limit else f"{text[:limit]}…"
    return "".join(char if char.isprintable() else "�" for char in text)
