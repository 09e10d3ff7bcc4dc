"""The objects of a JSON lines file, strictly: what JSON or its reader would bend is refused."""

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

from gateway.datasets.lines import MAX_LINE, LineTooLong
from gateway.datasets.problems import Problems, shown


class _Refused(ValueError):
    """Something that Python's reader would accept."""

    def __init__(self, code: str, message: str, column: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.column = column


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refused("duplicate_key", f"the key {shown(twice)!r} is there twice.")
    return found


def _constant(name: str) -> NoReturn:
    raise _Refused("bad_json", f"{name} is not JSON.")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Refused("bad_json", f"the number {shown(text)} is too large.")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)


def jsonl_rows(
    lines: Iterator[str], problems: Problems, *, check_text: bool = True
) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(line, object)`` of every line that is not blank; bad lines go to ``problems``.

    Texts that UTF-8 cannot hold are bad too, used or not, unless ``check_text`` is False.
    """
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if (found := _parse(line, number, problems, check_text)) is not None:
                yield number, found
    except LineTooLong as error:
        raise problems.fail(
            "line_too_long",
            f"the line is longer than {MAX_LINE:,} characters. Shorten or split it.",
            line=error.line,
        ) from error


def _parse(line: str, number: int, problems: Problems, check_text: bool) -> dict[str, Any] | None:
    try:
        found = _DECODER.decode(line)
        # Only an escape brings half a pair into text that came as UTF-8.
        if check_text and isinstance(found, dict) and ("\\ud" in line or "\\uD" in line):
            _refuse_halves(found)
    except _Refused as error:
        problems.add(error.code, str(error), line=number, column=error.column)
    except json.JSONDecodeError as error:
        problems.add("bad_json", f"not JSON: {error.msg}.", line=number, column=error.colno)
    except RecursionError:
        problems.add("bad_json", "nested too deeply.", line=number)
    except ValueError:
        problems.add("bad_json", "a number has too many digits.", line=number)
    else:
        if isinstance(found, dict):
            return found
        problems.add(
            "not_an_object",
            'each line must be one JSON object, such as {"prompt": "…", "completion": "…"}.',
            line=number,
        )
    return None


def _refuse_halves(found: dict[str, Any]) -> None:
    """Raise for half of a surrogate pair anywhere: neither a record nor an answer can hold it."""
    for name, value in found.items():
        # What is still to be looked at, instead of a recursion: it may nest as deep as can be read.
        left: list[Any] = [name, value]
        while left:
            item = left.pop()
            if isinstance(item, dict):
                left += [*item, *item.values()]
            elif isinstance(item, list):
                left += item
            elif isinstance(item, str) and not _encodable(item):
                raise _Refused(
                    "not_utf8",
                    f"the key {shown(name)!r} holds half of a surrogate pair (\\ud800 …). Write "
                    "the whole character, or leave it out.",
                    shown(name),
                )


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
