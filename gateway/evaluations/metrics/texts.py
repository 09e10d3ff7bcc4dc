"""Labels and diagrams in answers. Pure; loads no library that computes."""

import re
import unicodedata

_BEGIN = re.compile(r"^[ \t]*@startuml\b", re.MULTILINE | re.IGNORECASE)
_END = re.compile(r"^[ \t]*@enduml\b", re.MULTILINE | re.IGNORECASE)


def diagram_in(text: str) -> str:
    """The first diagram of an answer, which may stand between sentences; empty without one."""
    begin = _BEGIN.search(text)
    end = _END.search(text, begin.end()) if begin else None
    return text[begin.start() : end.end()].strip() if begin and end else ""


def label_of(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip().rstrip(".!。").strip().casefold()
