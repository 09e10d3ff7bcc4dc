"""What a streamed answer has said so far, and how another model's stream goes on with it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gateway.orchestrator.answer_reader import Piece, event_of


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


def closing(said: Said) -> Piece:
    """The end of an answer that has used up all that it may write."""
    nothing: dict[str, Any] = {"text": ""} if said.kind == "text" else {"delta": {}}
    choice = {"index": 0, "finish_reason": "length", "logprobs": None} | nothing
    event = said.head | {"choices": [choice]}
    return Piece(event_of(event), (event,))


def counted(said: Said, *, read: int, written: int) -> Piece:
    """How many tokens an answer was, where whoever gave it did not come to say so."""
    usage = {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }
    event = said.head | {"choices": [], "usage": usage}
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
