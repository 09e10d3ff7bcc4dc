"""Rows that hold a text and its answer in columns of their own, and alpaca's instructions."""

from dataclasses import dataclass
from typing import Any

from gateway.datasets.cells import Row
from gateway.datasets.chat_forms import turns_of, with_system
from shared.datasets import Message

PAIRS = (
    ("text", "target"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("question", "answer"),
    ("question", "response"),
    # What batch inference writes.
    ("instructions", "target_responses"),
)
INSTRUCTION = "instruction"
INPUTS = ("input", "context")
OUTPUTS = ("output", "response")
SYSTEM = ("system", "system_prompt")
HISTORY = "history"


@dataclass(frozen=True)
class Pair:
    """A column of texts and a column of answers. ``lists``: either may hold messages instead."""

    name: str
    source: str
    target: str
    system: str | None = None
    lists: bool = False

    @property
    def used(self) -> tuple[str, ...]:
        return tuple(name for name in (self.source, self.target, self.system) if name)

    @property
    def mapping(self) -> dict[str, str]:
        return _mapping(self.source, self.target, self.system)

    def messages(self, row: Row) -> list[Message]:
        prompt = self._turns(row, self.source, "user")
        answer = self._turns(row, self.target, "assistant")
        # Of a prompt that is a conversation, only what follows it is learned.
        context = [
            turn.model_copy(update={"weight": 0}) if turn.role == "assistant" else turn
            for turn in prompt
        ]
        return with_system(row.optional_text(self.system), [*context, *answer])

    def _turns(self, row: Row, column: str, role: Any) -> list[Message]:
        value = row.values.get(column)
        if self.lists and isinstance(value, list):
            return turns_of(row, column, value)
        text = row.text(column)
        return [Message(role=role, content=text)] if text else []


@dataclass(frozen=True)
class Alpaca:
    """An instruction, what it is about (may be blank) and the output; earlier rounds in
    ``history``, which are learned too."""

    name: str
    input: str
    target: str
    system: str | None = None

    @property
    def used(self) -> tuple[str, ...]:
        names = (INSTRUCTION, self.input, self.target, HISTORY, self.system)
        return tuple(name for name in names if name)

    @property
    def mapping(self) -> dict[str, str]:
        return _mapping(INSTRUCTION, self.target, self.system) | {"input_column": self.input}

    def messages(self, row: Row) -> list[Message]:
        earlier = _history(row)
        instruction = row.text(INSTRUCTION)
        about = row.optional_text(self.input)
        output = row.text(self.target)
        if not instruction or not output:
            return []
        question = f"{instruction}\n{about}" if about else instruction
        turns = [*earlier, Message(role="user", content=question)]
        turns.append(Message(role="assistant", content=output))
        return with_system(row.optional_text(self.system), turns)


def _mapping(source: str, target: str, system: str | None) -> dict[str, str]:
    names = {"text_column": source, "target_column": target}
    return names | ({"system_column": system} if system else {})


def _history(row: Row) -> list[Message]:
    found = row.values.get(HISTORY)
    if not found or (isinstance(found, str) and not found.strip()):
        return []
    if not isinstance(found, list) or not all(_is_round(item) for item in found):
        said = f"{HISTORY} must be a list of [question, answer] pairs."
        row.refuse("bad_history", said, HISTORY)
        return []
    turns = []
    for index, (question, answer) in enumerate(found):
        place = f"{HISTORY}[{index}]"
        asked, said = row.checked(question, f"{place}[0]"), row.checked(answer, f"{place}[1]")
        if asked and said:
            turns += [Message(role="user", content=asked), Message(role="assistant", content=said)]
    return turns


def _is_round(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2
