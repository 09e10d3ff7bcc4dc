"""The form that a seed's rows have in common, and what of a new row does not keep to it. Pure."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gateway.evaluations.metrics.texts import diagram_in
from gateway.synthesis.pairs import Pair

Kind = Literal["diagram", "json", "label", "text"]

# Of so many rows a form is believed: of two alike it would be chance.
_ENOUGH = 3
MAX_LABELS = 50
# Answers are labels where each is given so often on average, and short.
_ROWS_A_LABEL = 4
_LONGEST_LABEL = 60
# How far a text may lie outside of the lengths that were seen.
_SHORTER, _LONGER = 0.4, 2.0
_PLACEHOLDER = re.compile(
    r"^(?:\W*|n/?a|none|null|tbd|todo|\.\.\.|…|<[^<>\n]*>|\[[^\[\]\n]*\])$", re.IGNORECASE
)


@dataclass(frozen=True)
class Lengths:
    """In characters."""

    least: int
    most: int

    def problem(self, text: str, what: str) -> str | None:
        if self.least <= len(text) <= self.most:
            return None
        return f"The {what} has {len(text):,} characters, not {self.least:,} to {self.most:,}."


@dataclass(frozen=True)
class Shape:
    """``labels`` where the answers are some of a few; ``keys`` that every answer's object has."""

    kind: Kind
    prompt: Lengths
    completion: Lengths
    labels: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()

    def problem(self, pair: Pair) -> str | None:
        """What is wrong with the row's form, as a sentence; None where nothing is."""
        for what, text in (("question", pair.prompt), ("answer", pair.completion)):
            if not text.strip():
                return f"The {what} is empty."
            if _PLACEHOLDER.match(text.strip()) and text.strip() not in self.labels:
                return f"The {what} is a placeholder."
        if pair.prompt.strip() == pair.completion.strip() and self.kind != "text":
            return "The answer repeats the question."
        return self._answer_problem(pair.completion)

    def _answer_problem(self, answer: str) -> str | None:
        if self.kind == "label" and answer not in self.labels:
            return "The answer is none of the seed's labels."
        if self.kind == "diagram" and diagram_in(answer) != answer.strip():
            return "The answer is not one PlantUML diagram from @startuml to @enduml."
        if self.kind == "json":
            found = parsed_object(answer)
            if found is None:
                return "The answer is no JSON object as the seed's answers are."
            if missing := sorted(self.keys - found.keys()):
                return f"The answer's object has no {', '.join(missing)[:200]}."
        return None


def shape_of(pairs: Sequence[Pair]) -> Shape:
    """What all of ``pairs`` (at least one) have in common."""
    answers = [pair.completion.strip() for pair in pairs]
    prompt = _lengths([pair.prompt for pair in pairs])
    completion = _lengths([pair.completion for pair in pairs])
    if len(answers) >= _ENOUGH:
        if all(diagram_in(answer) == answer for answer in answers):
            return Shape("diagram", prompt, completion)
        objects = [parsed_object(answer) for answer in answers]
        if all(found is not None for found in objects):
            keys = frozenset.intersection(*(frozenset(found or {}) for found in objects))
            return Shape("json", prompt, completion, keys=keys)
        if (labels := _labels(answers)) is not None:
            return Shape("label", prompt, _lengths(list(labels)), labels=labels)
    return Shape("text", prompt, completion)


def _labels(answers: Sequence[str]) -> frozenset[str] | None:
    counts = Counter(answers)
    few = len(counts) <= min(MAX_LABELS, len(answers) / _ROWS_A_LABEL)
    short = all(len(answer) <= _LONGEST_LABEL and "\n" not in answer for answer in counts)
    return frozenset(counts) if few and short else None


def parsed_object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _lengths(texts: Sequence[str]) -> Lengths:
    found = sorted(map(len, texts))
    return Lengths(max(1, int(found[0] * _SHORTER)), max(20, int(found[-1] * _LONGER)))
