"""Rows that hold a conversation: OpenAI's ``messages`` and ShareGPT's ``conversations``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.datasets.cells import Row
from shared.datasets import Message, Role

MESSAGES = "messages"
CONVERSATIONS = "conversations"
MAX_TURNS = 1000
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
_SPEAKERS: dict[str, Role] = _ROLES | {"human": "user", "gpt": "assistant", "chatgpt": "assistant"}
_TOOLS = frozenset(
    {"function_call", "observation", "function", "tool", "tool_call", "tool_response"}
)
_NO_TOOLS = "calls a tool, which cannot be learned yet"


@dataclass(frozen=True)
class Chat:
    """A column of turns. ``system`` names a column whose text comes before them."""

    name: str
    target: str
    system: str | None = None

    @property
    def used(self) -> tuple[str, ...]:
        return (self.target, self.system) if self.system else (self.target,)

    @property
    def mapping(self) -> dict[str, str]:
        system = {"system_column": self.system} if self.system else {}
        return {"messages_column": self.target} | system

    def messages(self, row: Row) -> list[Message]:
        turns = turns_of(row, self.target, row.values.get(self.target), at_least=2)
        return with_system(row.optional_text(self.system), turns)


def with_system(system: str, turns: Sequence[Message]) -> list[Message]:
    """The turns after a system message, unless they have one of their own."""
    if not system or (turns and turns[0].role == "system"):
        return list(turns)
    return [Message(role="system", content=system), *turns]


def turns_of(row: Row, column: str, found: Any, *, at_least: int = 1) -> list[Message]:
    """A list of messages; those that are wrong are noted and left out."""
    if not isinstance(found, list) or not at_least <= len(found) <= MAX_TURNS:
        said = f"{column} must be a list of {at_least} to {MAX_TURNS} messages."
        row.refuse("bad_messages", said, column)
        return []
    turns = (_turn(row, f"{column}[{index}]", item) for index, item in enumerate(found))
    return [turn for turn in turns if turn is not None]


def check_turns(row: Row, column: str, turns: Sequence[Message]) -> None:
    if not turns or turns[-1].role != "assistant":
        row.refuse("bad_messages", "the last message must be the assistant's.", column)
    elif not any(turn.learned for turn in turns):
        row.refuse("bad_messages", "no assistant message is learned: every weight is 0.", column)


def _turn(row: Row, place: str, item: Any) -> Message | None:
    if said := _problem(item):
        row.refuse("bad_messages", f"{place} {said}.", place)
        return None
    key = "value" if "from" in item and "content" not in item else "content"
    content = item.get(key)
    if isinstance(content, list):
        content = _joined(content)
    text = row.checked(content, f"{place}.{key}")
    weight = item.get("weight")
    # A Parquet column whose values are partly null holds 1 as 1.0.
    kept: Any = None if weight is None else int(weight)
    return Message(role=_role(item), content=text, weight=kept) if text else None


def _role(item: dict[str, Any]) -> Role:
    return _ROLES[item["role"]] if item.get("role") else _SPEAKERS[item["from"]]


def _problem(item: Any) -> str:
    if not isinstance(item, dict):
        return "must be an object with role and content, or with from and value"
    role, speaker, weight = item.get("role"), item.get("from"), item.get("weight")
    if item.get("tool_calls") or item.get("function_call") or _is_one_of(speaker, _TOOLS):
        return _NO_TOOLS
    if speaker is not None and role is None:
        if not _is_one_of(speaker, _SPEAKERS):
            return "must be from human, gpt or system"
    elif not _is_one_of(role, _ROLES):
        return "must have the role system, user or assistant"
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        return "has a weight that is neither 0 nor 1"
    if weight is not None and _role(item) != "assistant":
        return "has a weight, which only assistant messages may have"
    return ""


def _is_one_of(name: Any, names: Any) -> bool:
    return isinstance(name, str) and name in names


def _joined(parts: list[Any]) -> str | None:
    """The text of OpenAI's content parts, or None where one of them is no text."""
    texts = [
        part["text"]
        for part in parts
        if isinstance(part, dict)
        and part.get("type") == "text"
        and isinstance(part.get("text"), str)
    ]
    return "".join(texts) if len(texts) == len(parts) else None
