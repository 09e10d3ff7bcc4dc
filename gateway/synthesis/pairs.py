"""What is generated: a question and its answer, in the form of a seed's rows. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.datasets import Message, Record


@dataclass(frozen=True)
class Pair:
    prompt: str
    completion: str


@dataclass(frozen=True)
class Seeds:
    """Rows that show what is wanted. ``system``: the system message that most of them have.
    ``left_out``: rows of several turns, which cannot be examples."""

    pairs: tuple[Pair, ...]
    system: str = ""
    left_out: int = 0


def seeds_of(records: Iterable[Record]) -> Seeds:
    pairs: list[Pair] = []
    systems: Counter[str] = Counter()
    left_out = 0
    for record in records:
        system, turns = _without_system(record)
        if [turn.role for turn in turns] == ["user", "assistant"]:
            pairs.append(Pair(turns[0].content, turns[1].content))
            systems[system] += 1
        else:
            left_out += 1
    common = systems.most_common(1)
    return Seeds(tuple(pairs), common[0][0] if common else "", left_out)


def _without_system(record: Record) -> tuple[str, Sequence[Message]]:
    first = record.messages[0]
    if first.role == "system":
        return first.content, record.messages[1:]
    return "", record.messages


def record_of(pair: Pair, system: str) -> Record:
    """The row that is learned."""
    before = (Message(role="system", content=system),) if system else ()
    return Record(messages=(*before, *Record.from_pair(pair.prompt, pair.completion).messages))
