"""The rows of a JSON document: an array of objects, or an object that holds one such array.

Read piece by piece: of a document of any length, no more than a row is in memory.
"""

import json
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

from gateway.datasets.jsonl_rows import STRICT, Refused, checked_object
from gateway.datasets.lines import MAX_LINE, locate_bad_byte, read_lines
from gateway.datasets.problems import Problems, shown
from shared.errors import InvalidData

# Keys under which a document that stands on one line holds its rows; such a line could as well be
# a row of JSON lines whose `messages` are a list.
LIST_KEYS = frozenset({"data", "rows", "train", "records", "examples", "items", "instances"})
_LENIENT = json.JSONDecoder()
_SPACE = " \t\r\n"
_BLOCK = 64 * 1024


def holds_rows(path: Path) -> bool:
    """Whether a file that begins with ``{`` is one document, and not an object a line."""
    with closing(read_lines(path, Problems())) as lines:
        filled = (line for line in lines if line.strip())
        try:
            found = json.loads(next(filled, ""))
        except (ValueError, RecursionError):
            return True
        if not isinstance(found, dict) or next(filled, None) is not None:
            return False
        return any(isinstance(found.get(key), list) for key in LIST_KEYS)


class _Text:
    """The text from where it was read to; at most a row and a block of it are held."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text, self._at, self._ended = "", 0, False
        self._line = 1

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if (found := self._text[self._at]) not in _SPACE:
                    return found
                self._at += 1
            if self._ended:
                return ""
            self._fill()

    def take(self, wanted: str) -> bool:
        """Whether ``wanted`` came next; then it is behind."""
        if self.peek() != wanted:
            return False
        self._at += 1
        return True

    def value(self, decoder: json.JSONDecoder = STRICT) -> tuple[Any, str]:
        """The next value and its text. JSONDecodeError with what is no JSON, or no end."""
        self.peek()
        while True:
            try:
                found, end = decoder.raw_decode(self._text, self._at)
                if end - self._at > MAX_LINE:
                    raise _TooLong
                # What ends with the block, such as a number, may go on in the next one.
                if end < len(self._text) or self._ended:
                    text, self._at = self._text[self._at : end], end
                    return found, text
            except json.JSONDecodeError:
                if self._ended:
                    raise
            if len(self._text) - self._at > MAX_LINE:
                raise _TooLong
            self._fill()

    def place(self, position: int | None = None) -> tuple[int, int]:
        """Line and character of a position in the text that is held."""
        before = self._text[: self._at if position is None else position]
        return self._line + before.count("\n"), len(before) - before.rfind("\n")

    def _fill(self) -> None:
        self._line += self._text.count("\n", 0, self._at)
        held = len(self._text) - self._at
        # Twice as much each time: a long row is not decoded again for every block of it.
        block = self._file.read(max(_BLOCK, held))
        self._text, self._at = self._text[self._at :] + block, 0
        self._ended = not block


class _TooLong(Exception):
    """A row over `MAX_LINE`."""


def json_rows(
    path: Path, problems: Problems, *, check_text: bool = True
) -> Generator[tuple[int, dict[str, Any]], None, None]:
    """``(row, object)`` of the array, counted from 1; bad rows go to ``problems``."""
    with path.open(encoding="utf-8-sig") as file:
        text = _Text(file)
        try:
            if text.take("["):
                yield from _array(text, problems, check_text)
            elif text.take("{"):
                yield from _object(text, problems, check_text)
            elif text.peek():
                raise _not_rows(problems)
            if text.peek():
                raise _broken(text, problems, "something follows its end")
        except UnicodeDecodeError as error:
            raise locate_bad_byte(path, problems) from error
        except json.JSONDecodeError as error:
            raise _broken(text, problems, error.msg, error.pos) from error
        except RecursionError as error:
            raise _broken(text, problems, "nested too deeply") from error
        except ValueError as error:
            raise _broken(text, problems, "a number has too many digits") from error
        except _TooLong as error:
            line, _ = text.place()
            said = f"a row is longer than {MAX_LINE:,} characters. Shorten or split it."
            raise problems.fail("line_too_long", said, line=line) from error


def _array(
    text: _Text, problems: Problems, check_text: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects behind ``[``."""
    number = 0
    if text.take("]"):
        return
    while True:
        number += 1
        if (found := _row(text, number, problems, check_text)) is not None:
            yield number, found
        if text.take("]"):
            return
        if not text.take(","):
            raise _broken(text, problems, "a comma or the closing bracket is missing")


def _row(text: _Text, number: int, problems: Problems, check_text: bool) -> dict[str, Any] | None:
    try:
        found, written = text.value()
    except Refused as error:
        problems.add(error.code, str(error), line=number, column=error.column)
        text.value(_LENIENT)
        return None
    try:
        return checked_object(found, check_text and ("\\ud" in written or "\\uD" in written))
    except Refused as error:
        problems.add(error.code, str(error), line=number, column=error.column)
        return None


def _object(
    text: _Text, problems: Problems, check_text: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of the one list of objects behind ``{``; what else it holds is passed over."""
    rows_in = ""
    while not text.take("}"):
        key, _ = text.value(_LENIENT)
        if not isinstance(key, str) or not text.take(":"):
            raise _broken(text, problems, "a key and a colon must stand here")
        if not text.take("["):
            text.value(_LENIENT)
        elif text.peek() != "{":
            _pass_over_list(text, problems)
        elif rows_in:
            said = f"there are two lists of rows, {shown(rows_in)!r} and {shown(key)!r}. Keep one."
            raise problems.fail("bad_json", said)
        else:
            rows_in = key
            yield from _array(text, problems, check_text)
        if not text.take(",") and text.peek() != "}":
            raise _broken(text, problems, "a comma or the closing brace is missing")
    if not rows_in:
        raise _not_rows(problems)


def _pass_over_list(text: _Text, problems: Problems) -> None:
    """The rest of a list that holds no rows, such as names of columns."""
    while not text.take("]"):
        text.value(_LENIENT)
        if not text.take(",") and text.peek() != "]":
            raise _broken(text, problems, "a comma or the closing bracket is missing")


def _not_rows(problems: Problems) -> InvalidData:
    return problems.fail(
        "not_an_object",
        "the document is neither a list of objects nor an object that holds one, such as "
        '[{"prompt": "…", "completion": "…"}] or {"data": […]}. Objects one a line are JSON '
        "Lines: give the file's name the ending .jsonl.",
    )


def _broken(text: _Text, problems: Problems, said: str, position: int | None = None) -> InvalidData:
    line, character = text.place(position)
    return problems.fail("bad_json", f"not JSON: {said}.", line=line, column=character)
