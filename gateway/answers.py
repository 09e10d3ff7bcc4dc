"""What stands in a whole answer of OpenAI's shape. A service LLM may have sent anything. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answered:
    """None: it does not say, or nothing that could be meant. ``rendered``: of a diagram."""

    text: str | None = None
    completion_id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    rendered: bool | None = None


def read_answer(answer: Mapping[str, Any]) -> Answered:
    choices = answer.get("choices")
    choice = _object(choices[0]) if isinstance(choices, list) and choices else {}
    message, usage = _object(choice.get("message")), _object(answer.get("usage"))
    rendered = _object(message.get("diagram")).get("rendered")
    return Answered(
        text=text_in(message.get("content", choice.get("text"))),
        completion_id=text_in(answer.get("id")),
        prompt_tokens=count_in(usage.get("prompt_tokens")),
        completion_tokens=count_in(usage.get("completion_tokens")),
        finish_reason=text_in(choice.get("finish_reason")),
        rendered=None if rendered is None else bool(rendered),
    )


def text_in(value: object) -> str | None:
    return value if isinstance(value, str) else None


def count_in(value: object) -> int | None:
    """A number of tokens that a database takes."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31:
        return value
    return None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
