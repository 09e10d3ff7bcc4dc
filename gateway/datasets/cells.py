"""One row of a file and what its cells must be; knows no form and no file."""

from dataclasses import dataclass
from typing import Any

from gateway.datasets.problems import Problems, shown

MAX_TEXT = 131_072


@dataclass(frozen=True)
class Row:
    """The values of a row by column, and where its problems go."""

    values: dict[str, Any]
    line: int
    problems: Problems

    def refuse(self, code: str, message: str, column: str) -> None:
        self.problems.add(code, message, line=self.line, column=column)

    def text(self, column: str) -> str:
        """The text of a column that must hold one; empty after a problem."""
        if column not in self.values:
            name = shown(column)
            self.refuse("missing_field", f"{name} is missing.", name)
            return ""
        return self.checked(self.values[column], column)

    def optional_text(self, column: str | None) -> str:
        """The text of a column that may be blank, null or absent; empty then, or after a
        problem."""
        value = self.values.get(column) if column else None
        blank = value is None or (isinstance(value, str) and not value.strip())
        return "" if blank else self.checked(value, column or "")

    def checked(self, text: Any, column: str) -> str:
        """``text`` if it is one that can be learned; empty after a problem."""
        name = shown(column)
        if not isinstance(text, str):
            self.refuse("not_text", f"{name} must be a text in double quotes.", name)
        elif not text.strip():
            self.refuse("blank_cell", f"{name} is blank.", name)
        elif len(text) > MAX_TEXT:
            self.refuse("field_too_long", f"{name} is longer than {MAX_TEXT:,} characters.", name)
        elif "\0" in text:
            self.refuse("nul_byte", f"{name} holds a NUL character.", name)
        else:
            return text
        return ""
