"""The objects of a JSON lines file, strictly: what JSON or its reader would bend is refused."""

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

from gateway.datasets.lines import MAX_LINE, LineTooLong
from gateway.datasets.problems import Problems, shown


class _Refused(ValueError):
    """Something that Python's reader would accept."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


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


def jsonl_rows(lines: Iterator[str], problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(line, object)`` of every line that is not blank; bad lines go to ``problems``."""
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if (found := _parse(line, number, problems)) is not None:
                yield number, found
    except LineTooLong as error:
        raise problems.fail(
            "line_too_long",
            f"the line is longer than {MAX_LINE:,} characters. Shorten or split it.",
            line=error.line,
        ) from error


def _parse(line: str, number: int, problems: Problems) -> dict[str, Any] | None:
    try:
        found = _DECODER.decode(line)
    except _Refused as error:
        problems.add(error.code, str(error), line=number)
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
