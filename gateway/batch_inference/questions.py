"""Which form a file of questions has: as a dataset's, but nobody need have answered them.

Where no answer is desired the record has an empty one, which no dataset may have."""

from collections.abc import Collection
from dataclasses import dataclass

from gateway.datasets.cells import Row
from gateway.datasets.chat_forms import Chat, turns_of, with_system
from gateway.datasets.formats import Columns, Form, choose_format, recognised
from gateway.datasets.pair_forms import INPUTS, INSTRUCTION, OUTPUTS, PAIRS, SYSTEM
from gateway.datasets.problems import Problems
from shared.datasets import Message

_PAIRS = (*PAIRS, *((INSTRUCTION, name) for name in OUTPUTS))
_SOURCES = dict.fromkeys(source for source, _ in _PAIRS)
_UNANSWERED = Message(role="assistant", content="")


@dataclass(frozen=True)
class Question:
    """A column of texts, or of lists of messages, and what an instruction is about. Of
    ``answers``, the columns for them, some rows may have one."""

    source: str
    answers: tuple[str, ...] = ()
    about: str | None = None
    system: str | None = None
    name: str = "questions"

    @property
    def target(self) -> str:
        return self.source

    @property
    def used(self) -> tuple[str, ...]:
        return tuple(name for name in (self.source, *self.answers, self.about, self.system) if name)

    @property
    def mapping(self) -> dict[str, str]:
        return {"text_column": self.source}

    def messages(self, row: Row) -> list[Message]:
        turns = self._turns(row)
        if not turns:
            return []
        said = next((text for name in self.answers if (text := row.optional_text(name))), "")
        turns.append(Message(role="assistant", content=said))
        return with_system(row.optional_text(self.system), turns)

    def _turns(self, row: Row) -> list[Message]:
        value = row.values.get(self.source)
        if isinstance(value, list):
            return turns_of(row, self.source, value)
        text, about = row.text(self.source), row.optional_text(self.about)
        asked = f"{text}\n{about}" if about else text
        return [Message(role="user", content=asked)] if text else []


@dataclass(frozen=True)
class Conversation:
    """A column of turns, the last of which may be a question."""

    chat: Chat

    @property
    def name(self) -> str:
        return self.chat.name

    @property
    def target(self) -> str:
        return self.chat.target

    @property
    def used(self) -> tuple[str, ...]:
        return self.chat.used

    @property
    def mapping(self) -> dict[str, str]:
        return self.chat.mapping

    def messages(self, row: Row) -> list[Message]:
        turns = turns_of(row, self.target, row.values.get(self.target))
        if turns and turns[-1].role == "user":
            turns.append(_UNANSWERED)
        return with_system(row.optional_text(self.chat.system), turns)


def choose_questions(
    columns: Collection[str], named: Columns, *, nested: bool, problems: Problems
) -> Form:
    """As `choose_format`, where there is an answer to each question; else the form without."""
    source = named.text_column
    if source is None and named.target_column is None and recognised(columns, nested) is None:
        source = next((name for name in _SOURCES if name in columns), None)
    known = source in columns and named.system_column in (None, *columns)
    if source is not None and known and named.target_column is None:
        return Question(
            source,
            # (The columns are those of the first row; others may have more.)
            tuple(answer for asked, answer in _PAIRS if asked == source),
            INPUTS[0] if source == INSTRUCTION else None,
            named.system_column or next((name for name in SYSTEM if name in columns), SYSTEM[0]),
        )
    form = choose_format(columns, named, nested=nested, problems=problems)
    return Conversation(form) if isinstance(form, Chat) else form
