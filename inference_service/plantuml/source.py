"""PlantUML sources as text: what is exactly one diagram, and how to find it in a model's answer."""

import re

from shared.diagrams import MAX_SOURCE_BYTES, RenderError

START, END = "@startuml", "@enduml"

_START_LINE = re.compile(r"[ \t]*@startuml\b[^\r\n]*", re.IGNORECASE)
_BEGIN = re.compile(r"^[ \t]*@startuml\b", re.MULTILINE)
_FINISH = re.compile(r"^[ \t]*@enduml\b", re.MULTILINE)
# PlantUML looks for its keywords behind anything but letters, and skips what looks like a tag.
_TAG = re.compile(r"<[^<>]*>?")
_KEYWORD = re.compile(r"\W*[@\\](start|end|pause|unpause|append|a\b)", re.IGNORECASE | re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")


def extract_source(text: str) -> str | None:
    """The first complete diagram in a model's answer, letter for letter; None if there is none.

    It may stand in a code fence or between sentences. A diagram inside another one is none.
    """
    # In two steps: one pattern for both would look for the end behind every beginning.
    begin = _BEGIN.search(text)
    end = _FINISH.search(text, begin.end()) if begin else None
    if begin is None or end is None or _BEGIN.search(text, begin.end(), end.start()):
        return None
    return text[begin.start() : end.end()].strip()


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


def source_lines(source: str) -> list[str]:
    """The lines as the renderer counts them, without blank ones around the diagram."""
    return re.split(r"\r\n|\r|\n", source.strip())


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
