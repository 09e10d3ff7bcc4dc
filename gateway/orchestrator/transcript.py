"""What comes of a streamed answer, what it has said so far, and how another model's stream goes on
with it. Pure.

Whole events are passed on as the bytes they came in. Each is read first: what a client could not
read must not reach it, since somebody else may have to go on.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from shared.errors import UpstreamFailed

MAX_EVENT_BYTES = 32 * 1024 * 1024
DONE = b"data: [DONE]\n\n"
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_LONGEST_END = 4
_PASSED_ON = (b"data:", b":")
# Fields that mean nothing here are left out: OpenAI's client takes a comment behind an id for an
# event without data, which it cannot read.
_LEFT_OUT = (b"event:", b"id:", b"retry:")
_MAX_SAID = 500


class WholeEvents:
    """Cuts a stream of bytes behind its last whole event: half of one must not reach a client."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def add(self, piece: bytes) -> bytes:
        """All whole events that there are now; UpstreamFailed where one never ends."""
        # What was looked through before is not looked through again: an event may be long.
        begin = max(0, len(self._waiting) + 1 - _LONGEST_END)
        self._waiting += piece
        places = ((self._waiting.rfind(mark, begin), len(mark)) for mark in _ENDS)
        end = max(place + length if place >= 0 else 0 for place, length in places)
        whole = bytes(self._waiting[:end])
        del self._waiting[:end]
        if len(self._waiting) > MAX_EVENT_BYTES:
            raise UpstreamFailed("The model's answer holds an event without an end.")
        return whole

    @property
    def rest(self) -> bytes:
        """An event that is not whole."""
        return bytes(self._waiting)


@dataclass(frozen=True)
class Piece:
    """Whole events: as they are passed on, and what they hold. Without ``events`` it is a comment
    that keeps the connection up."""

    raw: bytes
    events: tuple[dict[str, Any], ...] = ()


class AnswerReader:
    """Reads an answer of one of OpenAI's two shapes (``kind``) as its bytes come. ``done``: its end
    mark was there. ``trouble``: it cannot be read any further, or says itself that it broke off;
    what came before is good."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._whole = WholeEvents()
        self.done = False
        self.trouble: UpstreamFailed | None = None

    def add(self, chunk: bytes) -> Piece:
        """What can be passed on now."""
        try:
            whole = self._whole.add(chunk)
        except UpstreamFailed as error:
            self.trouble = error
            return Piece(b"")
        passed: list[bytes] = []
        found: list[dict[str, Any]] = []
        for raw, data in _split(whole):
            event = self._read(raw, data)
            if self.done or self.trouble is not None:
                break
            if event is not None:
                found.append(event)
            # Objects that are no part of an answer say nothing to clients, or make them stumble.
            if event is not None or data is None:
                passed.append(_without_fields(raw))
        return Piece(b"".join(passed), tuple(found))

    def _read(self, raw: bytes, data: bytes | None) -> dict[str, Any] | None:
        """The event, if it is a part of the answer."""
        if data is not None and data.strip() == b"[DONE]":
            self.done = True
            return None
        try:
            _check_lines(raw)
            event = _JSON.decode(data.decode()) if data is not None else None
        except (ValueError, RecursionError):
            self.trouble = _unreadable()
            return None
        if data is None:
            return None
        if (said := _error_in(event, raw)) is not None:
            self.trouble = UpstreamFailed(f"The answer broke off: {said}", code="stream_failed")
        elif not isinstance(event, dict) or not _has_shape(event.get("choices"), self._kind):
            self.trouble = _unreadable()
        elif event.get("choices") is not None:
            return event
        return None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_JSON = json.JSONDecoder(parse_constant=_no_number)


def _split(whole: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Each event, and its data; None where it has none."""
    raw: list[bytes] = []
    data: list[bytes] = []
    for line in whole.splitlines(keepends=True):
        raw.append(line)
        said = line.rstrip(b"\r\n")
        if said.startswith(b"data:"):
            data.append(said[5:])
        elif not said:
            yield b"".join(raw), b"\n".join(data) if data else None
            raw, data = [], []


def _check_lines(raw: bytes) -> None:
    """ValueError where it is no event stream."""
    raw.decode()
    known = _PASSED_ON + _LEFT_OUT
    if not all(line.startswith(known) or not line for line in raw.splitlines()):
        raise ValueError("no event stream")


def _without_fields(raw: bytes) -> bytes:
    lines = raw.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(_LEFT_OUT)]
    return raw if len(kept) == len(lines) else b"".join(kept)


def _unreadable() -> UpstreamFailed:
    return UpstreamFailed("The answer cannot be read any further.", code="stream_unreadable")


def _error_in(event: Any, raw: bytes) -> str | None:
    """What an error event says: services tell so that a stream broke off, each in its own way."""
    if not isinstance(event, dict):
        return None
    # (OpenAI's clients take any event with an ``error`` for one, whatever else it holds.)
    error = event.get("error")
    if not error and (event.get("object") == "error" or raw.startswith(b"event: error")):
        error = event
    if not error:
        return None
    said = error.get("message", "") if isinstance(error, dict) else error
    return str(said)[:_MAX_SAID]


def _has_shape(choices: Any, kind: str) -> bool:
    if choices is None:
        return True
    if not isinstance(choices, list) or not all(isinstance(one, dict) for one in choices):
        return False
    if kind == "text":
        return all(isinstance(one.get("text"), str) for one in choices)
    deltas = [one.get("delta") for one in choices]
    return all(
        isinstance(delta, dict) and isinstance(delta.get("content"), str | None) for delta in deltas
    )


@dataclass
class Said:
    """The answer so far. ``pieces`` counts events with text, mostly a token each. ``closed``: it
    came to an end, and only `[DONE]` may be missing. ``odd``: it is more than one text.
    ``rendered``: of a diagram."""

    kind: str
    pieces: int = 0
    # Of its text, in characters.
    size: int = 0
    head: dict[str, Any] = field(default_factory=dict)
    role_told: bool = False
    closed: bool = False
    odd: bool = False
    usage: dict[str, Any] | None = None
    finish_reason: str | None = None
    rendered: bool | None = None
    _texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Characters that came as two halves in two events are put together; a half alone, which
        nobody could store or send, is replaced."""
        whole = "".join(self._texts)
        try:
            whole.encode()
        except UnicodeEncodeError:
            return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole

    @property
    def tokens(self) -> int:
        """About how many; some services send several at once."""
        return max(self.pieces, self.size // 6)

    def hear(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            self._hear(event)

    def _hear(self, event: dict[str, Any]) -> None:
        choices = _choices(event)
        if choices and not self.head:
            names = ("id", "object", "created", "model")
            self.head = {name: event[name] for name in names if name in event}
        if isinstance(usage := event.get("usage"), dict):
            self.usage = usage
        for choice in choices:
            if piece := text_of(choice, self.kind):
                self._texts.append(piece)
                self.pieces += 1
                self.size += len(piece)
            if reason := choice.get("finish_reason"):
                self.closed, self.finish_reason = True, str(reason)
            self.odd = self.odd or choice.get("index", 0) != 0
            if isinstance(delta := choice.get("delta"), dict):
                self._hear_delta(delta)

    def _hear_delta(self, delta: dict[str, Any]) -> None:
        self.role_told = self.role_told or bool(delta.get("role"))
        drawn = delta.get("diagram")
        if isinstance(drawn, dict) and "rendered" in drawn:
            self.rendered = bool(drawn["rendered"])
        more = ("tool_calls", "function_call", "audio", "draft", "diagram")
        self.odd = self.odd or any(delta.get(name) for name in more)


def rewritten(piece: Piece, said: Said, *, written: int) -> Piece:
    """Events of the model that goes on, as if they were the first one's: its id, no second role.
    The tokens that were ``written`` before count as completion, not as prompt."""
    kept = []
    for event in piece.events:
        choices = _choices(event)
        for choice in choices:
            if said.role_told and isinstance(delta := choice.get("delta"), dict):
                delta.pop("role", None)
        says = any(
            text_of(choice, said.kind) or choice.get("finish_reason") or _tells_role(choice)
            for choice in choices
        )
        if isinstance(usage := event.get("usage"), dict):
            _count_as_written(usage, written)
        if says or usage:
            kept.append(event | said.head)
    return Piece(b"".join(map(event_of, kept)), tuple(kept))


def event_of(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def closing(said: Said) -> Piece:
    """The end of an answer that has used up all that it may write."""
    nothing: dict[str, Any] = {"text": ""} if said.kind == "text" else {"delta": {}}
    choice = {"index": 0, "finish_reason": "length", "logprobs": None} | nothing
    event = said.head | {"choices": [choice]}
    return Piece(event_of(event), (event,))


def _tells_role(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    return isinstance(delta, dict) and bool(delta.get("role"))


def _count_as_written(usage: dict[str, Any], tokens: int) -> None:
    for name, more in (("prompt_tokens", -tokens), ("completion_tokens", tokens)):
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
