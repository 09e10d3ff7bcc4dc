"""From a row of any accepted form to the canonical record; knows no files."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from gateway.datasets.problems import Problems, shown
from shared.datasets import Message, Record
from shared.errors import InvalidRequest

PAIRS = (("text", "target"), ("prompt", "completion"), ("prompt", "response"))
MESSAGES = "messages"
MAX_TEXT = 131_072
MAX_TURNS = 1000
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Format:
    """How rows hold their texts: a pair of columns, or a list of messages (``source`` None)."""

    name: str
    source: str | None
    target: str

    @property
    def used(self) -> tuple[str, ...]:
        return (self.target,) if self.source is None else (self.source, self.target)


def choose_format(
    columns: Collection[str],
    *,
    text_column: str | None,
    target_column: str | None,
    with_messages: bool,
    problems: Problems,
) -> Format:
    """The form of a file with these columns (or keys, in its first line)."""
    if text_column or target_column:
        return _named_columns(columns, text_column, target_column, problems)
    if with_messages and MESSAGES in columns:
        return Format(MESSAGES, None, MESSAGES)
    for source, target in PAIRS:
        if source in columns and target in columns:
            return Format(f"{source}/{target}", source, target)
    raise problems.fail("missing_column", _missing(columns, with_messages), line=1)


def _named_columns(
    columns: Collection[str], source: str | None, target: str | None, problems: Problems
) -> Format:
    if not source or not target:
        param = "target_column" if source else "text_column"
        raise InvalidRequest(
            f"text_column and target_column go together: give {param} too.", param=param
        )
    if source == target:
        raise InvalidRequest("text_column and target_column must differ.", param="target_column")
    for name in (source, target):
        if name not in columns:
            raise problems.fail(
                "missing_column",
                f"there is no column {shown(name)!r}. The columns are {_listed(columns)}.",
                line=1,
            )
    return Format("text/target", source, target)


def _missing(columns: Collection[str], with_messages: bool) -> str:
    wanted = "text,target or prompt,completion or prompt,response"
    wanted += " or messages" if with_messages else ""
    said = f"the columns {wanted} are needed; found {_listed(columns)}."
    only = next(iter(columns)) if len(columns) == 1 else ""
    for delimiter, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if delimiter in only:
            return f"{said} The file is separated by {name}: save it with commas."
    known = {word for pair in PAIRS for word in pair} | {MESSAGES}
    if near := [name for name in columns if name not in known and name.strip().lower() in known]:
        return f"{said} Names must match exactly: rename {_listed(near)}."
    return f"{said} Rename your columns, or give text_column and target_column."


def _listed(columns: Collection[str]) -> str:
    names = ", ".join(repr(shown(name)) for name in list(columns)[:10])
    return names + (", …" if len(columns) > 10 else "")


def to_record(
    values: dict[str, Any], form: Format, *, line: int, problems: Problems
) -> Record | None:
    """The record of a row, or None after its problems were noted."""
    before = len(problems.details)
    if form.source is None:
        messages = _messages(values.get(MESSAGES), line, problems)
        # Without the messages that are wrong, the rest may only look wrong.
        if len(problems.details) == before:
            _check_turns(messages, line, problems)
    else:
        source = _text(values, form.source, line, problems)
        target = _text(values, form.target, line, problems)
        messages = (
            [Message(role="user", content=source), Message(role="assistant", content=target)]
            if source and target
            else []
        )
    return None if len(problems.details) > before else Record(messages=tuple(messages))


def _text(values: dict[str, Any], column: str, line: int, problems: Problems) -> str:
    """The text of a column; empty after a problem."""
    if column not in values:
        problems.add("missing_field", f"{shown(column)} is missing.", line=line, column=column)
        return ""
    return _check_text(values[column], column, line, problems)


def _check_text(text: Any, column: str, line: int, problems: Problems) -> str:
    name = shown(column)
    if not isinstance(text, str):
        problems.add("not_text", f"{name} must be a text in double quotes.", line=line, column=name)
    elif not text.strip():
        problems.add("blank_cell", f"{name} is blank.", line=line, column=name)
    elif len(text) > MAX_TEXT:
        problems.add(
            "field_too_long",
            f"{name} is longer than {MAX_TEXT:,} characters.",
            line=line,
            column=name,
        )
    elif "\0" in text:
        problems.add("nul_byte", f"{name} holds a NUL character.", line=line, column=name)
    else:
        return text
    return ""


def _messages(found: Any, line: int, problems: Problems) -> list[Message]:
    if not isinstance(found, list) or not 2 <= len(found) <= MAX_TURNS:
        problems.add(
            "bad_messages",
            f"messages must be a list of 2 to {MAX_TURNS} messages.",
            line=line,
            column=MESSAGES,
        )
        return []
    return [
        message
        for index, item in enumerate(found)
        if (message := _message(item, f"messages[{index}]", line, problems)) is not None
    ]


def _message(item: Any, place: str, line: int, problems: Problems) -> Message | None:
    said = _message_problem(item)
    if said:
        problems.add("bad_messages", f"{place} {said}.", line=line, column=place)
        return None
    content = item.get("content")
    if isinstance(content, list):
        content = _joined(content)
    text = _check_text(content, f"{place}.content", line, problems)
    return Message(role=item["role"], content=text, weight=item.get("weight")) if text else None


def _message_problem(item: Any) -> str:
    if not isinstance(item, dict):
        return "must be an object with role and content"
    role, weight = item.get("role"), item.get("weight")
    if not isinstance(role, str) or role not in _ROLES:
        return "must have the role system, user or assistant"
    if "tool_calls" in item or "function_call" in item:
        return "calls a tool, which cannot be learned yet"
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        return "has a weight that is neither 0 nor 1"
    if weight is not None and role != "assistant":
        return "has a weight, which only assistant messages may have"
    return ""


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


def _check_turns(messages: list[Message], line: int, problems: Problems) -> None:
    if messages[-1].role != "assistant":
        problems.add(
            "bad_messages", "the last message must be the assistant's.", line=line, column=MESSAGES
        )
    elif not any(message.learned for message in messages):
        problems.add(
            "bad_messages",
            "no assistant message is learned: every weight is 0.",
            line=line,
            column=MESSAGES,
        )
