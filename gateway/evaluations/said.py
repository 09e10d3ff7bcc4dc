"""What a model said, read out of OpenAI's shape; whatever comes, it can be stored. Pure."""

from dataclasses import dataclass
from typing import Any

from gateway.answers import read_answer
from shared.errors import UpstreamFailed


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
    said = read_answer(answer)
    return Said(
        text=storable(said.text or ""),
        finish_reason=storable(said.finish_reason or ""),
        prompt_tokens=said.prompt_tokens or 0,
        completion_tokens=said.completion_tokens or 0,
    )


def storable(text: str) -> str:
    """Without half of a surrogate pair, which no file holds, and NUL, which PostgreSQL refuses."""
    return text.encode(errors="replace").decode().replace("\x00", "\ufffd")
