"""What a streamed answer has said so far, and how another model's stream goes on with it. Pure.

Events are passed on as bytes and read only where an answer breaks off: most never do.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from shared.errors import UpstreamFailed

MAX_EVENT_BYTES = 32 * 1024 * 1024
DONE = b"data: [DONE]\n\n"
# At the beginning of a line: a model may write these words itself.
_DONE_LINE = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


class WholeEvents:
    """Cuts a stream of bytes behind its last whole event: half of one must not reach a client,
    since somebody else may have to go on."""

    def __init__(self) -> None:
        self._waiting = b""

    def add(self, piece: bytes) -> bytes:
        """All whole events that there are now; UpstreamFailed where one never ends."""
        text = self._waiting + piece
        end = max(text.rfind(mark) + len(mark) if mark in text else 0 for mark in _ENDS)
        whole, self._waiting = text[:end], text[end:]
        if len(self._waiting) > MAX_EVENT_BYTES:
            raise UpstreamFailed("The model's answer holds an event without an end.")
        return whole

    @property
    def rest(self) -> bytes:
        """An event that is not whole."""
        return self._waiting


@dataclass
class Transcript:
    """The events that a client was sent. ``kind``: which of OpenAI's two shapes they have."""

    kind: str
    _sent: list[bytes] = field(default_factory=list)

    def add(self, events: bytes) -> None:
        self._sent.append(events)

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(map(len, self._sent))

    def read(self) -> "Said":
        """What they say. Events that cannot be read say nothing."""
        said = Said()
        for event in read_events(b"".join(self._sent)):
            said.hear(event, self.kind)
        return said


@dataclass
class Said:
    """The answer so far. ``pieces`` counts events with text, mostly a token each. ``closed``: it
    came to an end, and only `[DONE]` may be missing. ``odd``: it is more than one text.
    ``rendered``: of a diagram."""

    text: str = ""
    pieces: int = 0
    head: dict[str, Any] = field(default_factory=dict)
    closed: bool = False
    odd: bool = False
    usage: dict[str, Any] | None = None
    finish_reason: str | None = None
    rendered: bool | None = None

    def hear(self, event: dict[str, Any], kind: str) -> None:
        self.head = self.head or {
            name: event[name] for name in ("id", "created", "model") if name in event
        }
        if isinstance(usage := event.get("usage"), dict):
            self.usage = usage
        for choice in _choices(event):
            piece = text_of(choice, kind)
            self.text += piece
            self.pieces += bool(piece)
            if (reason := choice.get("finish_reason")) is not None:
                self.closed, self.finish_reason = True, str(reason)
            delta = choice.get("delta")
            drawn = delta.get("diagram") if isinstance(delta, dict) else None
            if isinstance(drawn, dict) and "rendered" in drawn:
                self.rendered = bool(drawn["rendered"])
            more = isinstance(delta, dict) and any(
                delta.get(name) for name in ("tool_calls", "function_call", "audio", "draft")
            )
            self.odd = self.odd or more or choice.get("index", 0) != 0


def read_events(stream: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream of whole events."""
    for line in stream.splitlines():
        if not line.startswith(b"data:") or _DONE_LINE.match(line):
            continue
        try:
            event = json.loads(line.removeprefix(b"data:"))
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def before_done(events: bytes) -> bytes | None:
    """What comes before the `[DONE]` among the events; None where there is none."""
    if b"[DONE]" not in events or (done := _DONE_LINE.search(events)) is None:
        return None
    return events[: done.start()]


def error_in(events: bytes) -> str | None:
    """What an error event among them says: services tell so that a stream broke off."""
    if b'"error"' not in events:
        return None
    for event in read_events(events):
        error = event.get("error")
        if isinstance(error, dict) and not event.get("choices"):
            return str(error.get("message", ""))[:500]
    return None


def rewritten(events: bytes, said: Said, kind: str) -> bytes:
    """Events of the model that goes on, as if they were the first one's: its id, no second role,
    no `[DONE]` yet. What the first one wrote counts as completion, not as prompt."""
    out = []
    for event in read_events(events):
        choices = _choices(event)
        for choice in choices:
            delta = choice.get("delta")
            if isinstance(delta, dict):
                delta.pop("role", None)
        says = any(
            text_of(choice, kind) or choice.get("finish_reason") is not None for choice in choices
        )
        if isinstance(usage := event.get("usage"), dict):
            _count_as_written(usage, said.pieces)
        if says or usage:
            out.append(b"data: " + json.dumps(event | said.head).encode() + b"\n\n")
    return b"".join(out)


def _count_as_written(usage: dict[str, Any], pieces: int) -> None:
    for name, more in (("prompt_tokens", -pieces), ("completion_tokens", pieces)):
        if isinstance(counted := usage.get(name), int):
            usage[name] = max(0, counted + more)


def _choices(event: dict[str, Any]) -> list[dict[str, Any]]:
    choices = event.get("choices")
    if not isinstance(choices, list):
        return []
    return [choice for choice in choices if isinstance(choice, dict)]


def text_of(choice: dict[str, Any], kind: str) -> str:
    if kind == "text":
        found = choice.get("text")
    else:
        delta = choice.get("delta")
        found = delta.get("content") if isinstance(delta, dict) else None
    return found if isinstance(found, str) else ""
