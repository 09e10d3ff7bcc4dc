"""The objects of a JSON lines file, strictly: what JSON or its reader would bend is refused."""

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

from gateway.datasets.csv_rows import MAX_COLUMNS
from gateway.datasets.lines import MAX_LINE
from gateway.datasets.problems import Problems, shown


class Refused(ValueError):
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
        raise Refused("duplicate_key", f"the key {shown(twice)!r} is there twice.")
    return found


def _constant(name: str) -> NoReturn:
    raise Refused("bad_json", f"{name} is not JSON.")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Refused("bad_json", f"the number {shown(text)} is too large.")
    return number


STRICT = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)


def jsonl_rows(
    lines: Iterator[str], problems: Problems, *, check_text: bool = True
) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(line, object)`` of every line that is not blank; bad lines go to ``problems``.

    Texts that UTF-8 cannot hold are bad too, used or not, unless ``check_text`` is False.
    """
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE:
            said = f"the line is longer than {MAX_LINE:,} characters. Shorten or split it."
            problems.add("line_too_long", said, line=number)
        elif line.strip() and (found := _parse(line, number, problems, check_text)) is not None:
            yield number, found


def _parse(line: str, number: int, problems: Problems, check_text: bool) -> dict[str, Any] | None:
    try:
        found = STRICT.decode(line)
        # Only an escape brings half a pair into text that came as UTF-8.
        return checked_object(found, check_text and ("\\ud" in line or "\\uD" in line))
    except Refused as error:
        problems.add(error.code, str(error), line=number, column=error.column)
    except json.JSONDecodeError as error:
        problems.add("bad_json", f"not JSON: {error.msg}.", line=number, column=error.colno)
    except RecursionError:
        problems.add("bad_json", "nested too deeply.", line=number)
    except ValueError:
        problems.add("bad_json", "a number has too many digits.", line=number)
    return None


def checked_object(found: Any, check_text: bool = True) -> dict[str, Any]:
    """``found`` if it can be a row, or `Refused`."""
    if not isinstance(found, dict):
        raise Refused(
            "not_an_object",
            'each row must be one JSON object, such as {"prompt": "…", "completion": "…"}.',
        )
    if len(found) > MAX_COLUMNS:
        raise Refused(
            "too_many_columns", f"there are {len(found)} keys; at most {MAX_COLUMNS} are read."
        )
    if check_text:
        _refuse_halves(found)
    return found


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
                raise Refused(
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
