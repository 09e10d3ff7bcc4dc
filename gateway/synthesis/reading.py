"""What stands in the answers of models: rows, and objects. Pure.

Models in a loop write one character ten thousand times: no expression here takes longer than a
text is long.
"""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from gateway.synthesis.pairs import Pair

# `### Input`, `**Input 2:** text`, `1. Input: text`. (Repetitions have bounds: each expression
# looks at the beginning of a line alone.)
_HEADING = re.compile(
    r"[ \t>]{0,8}(?:(?:[-+*•]|\d{1,3}[.)])[ \t]{1,4})?"
    r"(?P<mark>#{1,6}[ \t]{0,4}[*_]{0,3}|[*_]{2,3})?"
    r"(?:row[ \t]\d{1,4}[:.)]?[ \t]{0,4})?(?P<what>input|output|question|answer)[ \t]{0,4}\d{0,4}"
    r"[ \t]{0,4}(?P<colon>:?)[*_]{0,3}[ \t]{0,4}(?P<late>:?)",
    re.IGNORECASE,
)
# What is left behind a row of what leads over to the next one: a rule, `### Row 2`, `2.`.
_LEADS_OVER = re.compile(
    r"[ \t]{0,8}(?:-{3,}|={3,}|\*{3,}|#{2,6}(?:[ \t].*)?|\d{1,3}[.)]"
    r"|[*_]{0,3}(?:row|example)[ \t]{0,2}#?\d{1,4}[:.)]?[*_]{0,3}:?)[ \t]*",
    re.IGNORECASE,
)
_FENCE = re.compile(r"(?:```|~~~)[\w+-]{0,40}[ \t]*")
_OPENING = re.compile(r"[\[{]")
# A text in which so many brackets open nothing holds no JSON.
_MAX_FALSE_STARTS = 200
_SOURCES = ("input", "prompt", "question", "instruction", "text")
_TARGETS = ("output", "completion", "answer", "response", "target")
_LISTS = ("rows", "data", "examples")


def rows_in(text: str, *, cut_off: bool = False) -> list[Pair]:
    """The rows of an answer, in order: under headings, or as JSON. With ``cut_off`` the last one
    may lack its end, and is left out. What is no whole row is not guessed."""
    if marked := _under_headings(text, marked=True):
        return marked[:-1] if cut_off else marked
    # (Half an object is none.)
    if objects := _as_json(text):
        return objects
    plain = _under_headings(text, marked=False)
    return plain[:-1] if cut_off else plain


def _under_headings(text: str, *, marked: bool) -> list[Pair]:
    """``marked``: with # or **."""
    blocks: list[tuple[bool, list[str]]] = []
    for line in text.splitlines():
        heading = _heading(line, marked=marked)
        if heading is not None:
            is_answer, rest = heading
            blocks.append((is_answer, [rest] if rest else []))
        elif blocks:
            blocks[-1][1].append(line)
    return [
        Pair(_text_of(source), _text_of(target))
        for (first, source), (second, target) in pairwise(blocks)
        if second and not first
    ]


def _heading(line: str, *, marked: bool) -> tuple[bool, str] | None:
    """Whether an answer begins here, and what stands on the heading's own line, which needs a
    colon: `## Output format` is part of an answer."""
    found = _HEADING.match(line)
    if found is None or (marked and not found["mark"]):
        return None
    rest = line[found.end() :].strip()
    if rest and not (found["colon"] or found["late"]):
        return None
    return found["what"].lower() in ("output", "answer"), rest


def _text_of(lines: list[str]) -> str:
    end = len(lines)
    while end > 1 and (not lines[end - 1].strip() or _LEADS_OVER.fullmatch(lines[end - 1])):
        end -= 1
    return clean("\n".join(lines[:end]))


def clean(text: str) -> str:
    """Without what models put around a text: blank lines, a code fence."""
    text = text.strip()
    first, _, rest = text.partition("\n")
    if _FENCE.fullmatch(first) and rest.endswith(("```", "~~~")):
        text = rest[:-3].strip()
    # (Half of a surrogate pair is no text that could be stored, and PostgreSQL takes no NUL.)
    return text.replace("\x00", "").encode(errors="replace").decode()


def _as_json(text: str) -> list[Pair]:
    rows: list[Pair] = []
    for value in _rows_of_objects(text):
        source = next((value[key] for key in _SOURCES if isinstance(value.get(key), str)), None)
        target = next((value[key] for key in _TARGETS if key in value), None)
        if isinstance(target, dict):
            target = json.dumps(target, ensure_ascii=False)
        if source is not None and isinstance(target, str):
            rows.append(Pair(clean(source), clean(target)))
    return rows


def _rows_of_objects(text: str) -> Iterator[dict[str, Any]]:
    for found in objects_in(text):
        nested = next((found[key] for key in _LISTS if isinstance(found.get(key), list)), None)
        yield from (one for one in nested or [found] if isinstance(one, dict))


def objects_in(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text: alone, in a list, or one behind the other."""
    decoder, place, false_starts = json.JSONDecoder(), 0, 0
    while false_starts < _MAX_FALSE_STARTS and (found := _OPENING.search(text, place)):
        try:
            value, place = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            place = found.start() + 1
            false_starts += 1
            continue
        yield from (
            one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)
        )
