"""PlantUML sources as text: what is exactly one diagram."""

import re

from shared.diagram_talk import END, START, source_lines
from shared.diagrams import MAX_SOURCE_BYTES, RenderError

_START_LINE = re.compile(r"[ \t]*@startuml\b[^\r\n]*", re.IGNORECASE)
# PlantUML looks for its keywords behind anything but letters, and skips what looks like a tag.
_TAG = re.compile(r"<[^<>]*>?")
_KEYWORD = re.compile(r"\W*[@\\](start|end|pause|unpause|append|a\b)", re.IGNORECASE | re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")


def check_source(source: str) -> RenderError | None:
    """Why ``source`` is not exactly one ``@startuml`` diagram, or None where it is.

    A renderer reads one diagram after another from a pipe: a source that begins or ends a second
    one would shift all answers behind it.
    """
    try:
        size = len(source.encode())
    except UnicodeEncodeError:
        return RenderError(message="The source holds half of a surrogate pair, which is no text.")
    if size > MAX_SOURCE_BYTES:
        return RenderError(message=f"The source has {size} bytes; {MAX_SOURCE_BYTES} are allowed.")
    lines = source_lines(source)
    if not lines or not _START_LINE.fullmatch(lines[0]):
        return RenderError(line=1, message=f"The source must begin with a line {START}.")
    if len(lines) < 2 or lines[-1].strip().lower() != END:
        return RenderError(line=len(lines), message=f"The source must end with a line {END}.")
    body = lines[1:-1]
    if not any(line.strip() for line in body):
        return RenderError(line=1, message="The diagram is empty.")
    for number, line in enumerate(body, start=2):
        if message := _line_problem(line):
            return RenderError(line=number, message=message)
    return None


def pipe_text(source: str) -> bytes:
    """A checked source as it goes down the pipe: the same lines, first and last one made plain.

    (A name behind ``@startuml`` would name a file.)
    """
    return "\n".join([START, *source_lines(source)[1:-1], END, ""]).encode()


def _line_problem(line: str) -> str | None:
    if _CONTROL.search(line):
        return "The line holds a control character."
    if line.startswith("@@@") or _KEYWORD.match(line) or _KEYWORD.match(_TAG.sub("", line)):
        return (
            f"Exactly one diagram is allowed: {START} stands in its first line alone, "
            f"{END} in its last."
        )
    return None
