"""What a model wrote for a prompt, beside what was wanted and what it wrote before."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Protocol

# Longer texts are shown without a comparison: its time grows with the square of the words.
MOST_WORDS = 600
_WORD = re.compile(r"\s*\S+|\s+")


class Written(Protocol):
    """The part of a sample that is shown."""

    @property
    def prompt(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def output(self) -> str: ...
    @property
    def before(self) -> str | None: ...


@dataclass(frozen=True)
class Piece:
    """A stretch of an output; ``new`` since the evaluation before."""

    text: str
    new: bool = False


@dataclass(frozen=True)
class ShownSample:
    prompt: str
    target: str
    pieces: tuple[Piece, ...]
    before: str | None
    matches: bool
    changed: bool


def shown_samples(samples: Iterable[Written]) -> list[ShownSample]:
    return [
        ShownSample(
            prompt=sample.prompt,
            target=sample.target,
            pieces=pieces_of(sample.before, sample.output),
            before=sample.before,
            matches=sample.output.strip() == sample.target.strip(),
            changed=sample.before is not None and sample.before != sample.output,
        )
        for sample in samples
    ]


@lru_cache(maxsize=256)
def pieces_of(before: str | None, output: str) -> tuple[Piece, ...]:
    """``output`` in pieces, those marked that ``before`` does not have; together they are the
    output."""
    if before is None or before == output:
        return (Piece(output),)
    old, words = _WORD.findall(before), _WORD.findall(output)
    if max(len(old), len(words)) > MOST_WORDS:
        return (Piece(output),)
    matcher = SequenceMatcher(None, old, words, autojunk=False)
    return tuple(
        Piece("".join(words[begin:end]), kind != "equal")
        for kind, _, _, begin, end in matcher.get_opcodes()
        if begin < end
    )
