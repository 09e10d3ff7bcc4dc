"""Which form a file has, by its columns, and the canonical record of each row; knows no files."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gateway.datasets.cells import Row
from gateway.datasets.chat_forms import CONVERSATIONS, MESSAGES, Chat, check_turns
from gateway.datasets.pair_forms import INPUTS, INSTRUCTION, OUTPUTS, PAIRS, SYSTEM, Alpaca, Pair
from gateway.datasets.problems import Problems, shown
from shared.datasets import Message, Record
from shared.errors import InvalidRequest

# TRL's form: its texts may be lists of messages.
_WITH_LISTS = ("prompt", "completion")


@dataclass(frozen=True)
class Columns:
    """Which column is what, where a user says so."""

    text_column: str | None = None
    target_column: str | None = None
    system_column: str | None = None


AS_FOUND = Columns()


class Form(Protocol):
    """How rows hold their texts: ``target`` is the column of the answers, ``mapping`` which
    column is what."""

    @property
    def name(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def used(self) -> tuple[str, ...]: ...
    @property
    def mapping(self) -> dict[str, str]: ...
    def messages(self, row: Row) -> list[Message]: ...


def choose_format(
    columns: Collection[str], named: Columns, *, nested: bool, problems: Problems
) -> Form:
    """The form of a file with these columns (or keys, in its first row), unless the user ``named``
    them. ``nested``: cells may hold lists."""
    text_column, target_column = named.text_column, named.target_column
    system_column = named.system_column
    for name in (text_column, target_column, system_column):
        if name and name not in columns:
            said = f"there is no column {shown(name)!r}. The columns are {_listed(columns)}."
            raise problems.fail("missing_column", said, line=problems.first_line)
    if text_column or target_column:
        source, target = _both(text_column, target_column)
        if system_column in (source, target):
            raise InvalidRequest(
                "system_column must be another column than the two.", param="system_column"
            )
        return Pair("text/target", source, target, system_column)
    form = recognised(columns, nested)
    if form is None:
        said = _missing(columns, nested)
        raise problems.fail("missing_column", said, line=problems.first_line)
    return replace(form, system=system_column) if system_column else form


def recognised(columns: Collection[str], nested: bool) -> Chat | Pair | Alpaca | None:
    """The form by the names of the columns alone."""
    system = _first(SYSTEM, columns)
    # The keys of a first row tell nothing of what other rows may have besides.
    if system is None and nested:
        system = SYSTEM[0]
    if nested and MESSAGES in columns:
        return Chat(MESSAGES, MESSAGES)
    if nested and CONVERSATIONS in columns:
        return Chat("sharegpt", CONVERSATIONS, system)
    output = _first(OUTPUTS, columns)
    if INSTRUCTION in columns and output:
        about = _first(INPUTS, columns) or INPUTS[0]
        name = "alpaca" if output == OUTPUTS[0] else f"{INSTRUCTION}/{output}"
        return Alpaca(name, about, output, system)
    for pair in PAIRS:
        if pair[0] in columns and pair[1] in columns:
            return Pair("/".join(pair), *pair, system, nested and pair == _WITH_LISTS)
    return None


def _first(names: Collection[str], columns: Collection[str]) -> str | None:
    return next((name for name in names if name in columns), None)


def _both(source: str | None, target: str | None) -> tuple[str, str]:
    if not source or not target:
        param = "target_column" if source else "text_column"
        raise InvalidRequest(
            f"text_column and target_column go together: give {param} too.", param=param
        )
    if source == target:
        raise InvalidRequest("text_column and target_column must differ.", param="target_column")
    return source, target


def _missing(columns: Collection[str], nested: bool) -> str:
    forms = [*(",".join(pair) for pair in PAIRS[:3]), "question,answer", "instruction,output"]
    forms += [MESSAGES, CONVERSATIONS] if nested else []
    said = f"the columns {' or '.join(forms)} are needed; found {_listed(columns)}."
    only = next(iter(columns)) if len(columns) == 1 else ""
    for delimiter, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if delimiter in only:
            return f"{said} The file is separated by {name}: save it with commas."
    known = {word for pair in PAIRS for word in pair} | {MESSAGES, CONVERSATIONS, INSTRUCTION}
    known |= {*OUTPUTS}
    if near := [name for name in columns if name not in known and name.strip().lower() in known]:
        return f"{said} Names must match exactly: rename {_listed(near)}."
    return f"{said} Rename your columns, or give text_column and target_column."


def _listed(columns: Collection[str]) -> str:
    names = ", ".join(repr(shown(name)) for name in list(columns)[:10])
    return names + (", …" if len(columns) > 10 else "")


def to_record(
    values: dict[str, Any], form: Form, *, line: int, problems: Problems
) -> Record | None:
    """The record of a row, or None after its problems were noted."""
    before = problems.count
    row = Row(values, line, problems)
    messages = form.messages(row)
    # Without the messages that are wrong, the rest may only look wrong.
    if problems.count == before:
        check_turns(row, form.target, messages)
    return None if problems.count > before else Record(messages=tuple(messages))
