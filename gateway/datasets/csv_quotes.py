"""Finds out about a quoted text that is longer than any cell: was it ever closed?"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

# Characters after which a quote that is still open counts as never closed: no cell is that long.
_FAR = 64 * 1024 * 1024
_OPENING = re.compile(r'(?:^|(?<=,))"')


@dataclass(frozen=True)
class LongText:
    """``opened_at``: the line of its opening quote, None where it stands in no quotes."""

    opened_at: int | None
    closed: bool


def look_at_row(lines: Iterable[str], first_line: int, limit: int) -> LongText:
    """The first text of the row over ``limit`` characters; ``lines`` begin at its
    ``first_line``."""
    opened_at: int | None = None
    length = 0
    for number, line in enumerate(lines, start=first_line):
        at = 0
        while True:
            if opened_at is None:
                if (found := _OPENING.search(line, at)) is None:
                    break
                opened_at, at, length = number, found.end(), 0
            end = _closing(line, at)
            length += (len(line) if end is None else end) - at
            if end is None:
                break
            if length > limit:
                return LongText(opened_at, line[end + 1 : end + 2] in ("", ",", "\r", "\n"))
            opened_at, at = None, end + 1
        if opened_at is None:
            return LongText(None, True)
        if length > _FAR:
            break
    return LongText(opened_at, False)


def _closing(line: str, at: int) -> int | None:
    """Where the closing quote stands: one that is not written twice."""
    while (end := line.find('"', at)) >= 0:
        if line[end + 1 : end + 2] != '"':
            return end
        at = end + 2
    return None
