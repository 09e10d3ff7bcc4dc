"""What a model said, read out of OpenAI's shape; whatever comes, it can be stored. Pure."""

from dataclasses import dataclass
from typing import Any

from shared.errors import UpstreamFailed

_MOST_TOKENS = 2**31 - 1


@dataclass(frozen=True)
class Said:
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def read_said(answer: dict[str, Any]) -> Said:
    """UpstreamFailed where it is no answer."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise UpstreamFailed("What came is no answer.", code="upstream_unreadable")
    message, usage = _object(choice.get("message")), _object(answer.get("usage"))
    return Said(
        text=_text(message.get("content")),
        finish_reason=_text(choice.get("finish_reason")),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def storable(text: str) -> str:
    """Without half of a surrogate pair, which no file holds, and NUL, which PostgreSQL refuses."""
    return text.encode(errors="replace").decode().replace("\x00", "\ufffd")


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return storable(value) if isinstance(value, str) else ""


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else 0
