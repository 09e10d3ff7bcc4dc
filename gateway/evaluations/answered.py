"""Examples and the answers to them, as they are handed to those who score them, and how answers are
read. Pure; loads no library that counts."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

_BEGIN = re.compile(r"^[ \t]*@startuml\b", re.MULTILINE | re.IGNORECASE)
_END = re.compile(r"^[ \t]*@enduml\b", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """An example. ``source`` is the last thing the user says."""

    source: str
    references: tuple[str, ...]
    tag: str | None = None


@dataclass(frozen=True)
class Settings:
    metrics: tuple[str, ...]
    baseline: int = 0
    seed: int = 42
    confidence: float = 0.95
    resamples: int = 1000


@dataclass(frozen=True)
class Answer:
    """A model's answer to one example, with what it is measured against.

    ``source`` is the last thing the user said. ``rendered``: whether its diagram was drawn.
    ``log_likelihood`` is that of the first reference under the model, in nats, of so many
    ``likelihood_tokens``. ``similarity`` (1 to 5) and ``preference`` (1 won, 0.5 a tie, 0 lost) are
    a judge's. None where something was not measured.
    """

    source: str
    references: tuple[str, ...]
    text: str
    finish_reason: str = "stop"
    rendered: bool | None = None
    log_likelihood: float | None = None
    likelihood_tokens: int | None = None
    similarity: float | None = None
    preference: float | None = None


def diagram_in(text: str) -> str:
    """The first diagram of an answer, which may stand between sentences; empty without one."""
    begin = _BEGIN.search(text)
    end = _END.search(text, begin.end()) if begin else None
    return text[begin.start() : end.end()].strip() if begin and end else ""


def label_of(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip().rstrip(".!。").strip().casefold()
