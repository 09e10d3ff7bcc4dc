"""What comes of a streamed answer, as its bytes come. Pure.

Whole events are passed on as they came. Each is read first: what a client could not read must not
reach it, since somebody else may have to go on.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
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


def event_of(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


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
    that keeps the connection up; ``says``: there is more in them than that an answer begins."""

    raw: bytes
    events: tuple[dict[str, Any], ...] = ()
    says: bool = False


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
        for raw, data, is_plain in _split(whole):
            event = self._read(raw, data, is_plain=is_plain)
            if self.done or self.trouble is not None:
                break
            if event is not None:
                found.append(event)
            # Objects that are no part of an answer say nothing to clients, or make them stumble.
            if event is not None or data is None:
                passed.append(raw if is_plain else _without_fields(raw))
        return Piece(b"".join(passed), tuple(found), any(map(_says_something, found)))

    def _read(self, raw: bytes, data: bytes | None, *, is_plain: bool) -> dict[str, Any] | None:
        """The event, if it is a part of the answer."""
        if data is not None and data.strip() == b"[DONE]":
            self.done = True
            return None
        try:
            if not is_plain:
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


def _split(whole: bytes) -> Iterator[tuple[bytes, bytes | None, bool]]:
    """Each event, its data (None where it has none), and whether it is one line of data alone, as
    nearly all are."""
    raw: list[bytes] = []
    data: list[bytes] = []
    for line in whole.splitlines(keepends=True):
        raw.append(line)
        said = line.rstrip(b"\r\n")
        if said.startswith(b"data:"):
            data.append(said[5:])
        elif not said:
            yield b"".join(raw), b"\n".join(data) if data else None, len(data) == len(raw) - 1 == 1
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
    return str(said).encode("utf-8", "replace").decode()[:_MAX_SAID]


def _says_something(event: dict[str, Any]) -> bool:
    """A role alone, and an empty text, say nothing."""
    for choice in event["choices"]:
        delta = choice.get("delta")
        said = delta.items() if isinstance(delta, dict) else ()
        if choice.get("text") or choice.get("finish_reason"):
            return True
        if any(value for name, value in said if name != "role"):
            return True
    return False


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
