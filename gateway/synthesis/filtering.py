"""Which generated rows are kept, and why the others are not: by form, length, sameness and leaks.
Pure; who judges and draws is asked elsewhere."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.synthesis.pairs import Pair
from gateway.synthesis.shape import Lengths, Shape
from gateway.synthesis.similar import Match, NearIndex
from gateway.synthesis.spec import Wishes

Reason = Literal[
    "unreadable",
    "schema",
    "length",
    "duplicate",
    "near_duplicate",
    "leakage",
    "render",
    "judge",
    "surplus",
]
REASONS: dict[str, str] = {
    "unreadable": "No row could be read in the answer",
    "schema": "Not the form of the seed's rows",
    "length": "Too short or too long",
    "duplicate": "A row that is there already",
    "near_duplicate": "Nearly a row that is there already",
    "leakage": "Too near to a row of an evaluation set",
    "render": "The diagram does not render",
    "judge": "The judge's score is too low",
    "surplus": "More than were wanted",
}
# An answer that is shorter than this may well be the same by chance.
_TELLING = 60
_SHOWN = 400


@dataclass(frozen=True)
class Drop:
    """Why a row is not kept: ``said`` as a sentence, ``matched`` the row that it is too near to."""

    reason: Reason
    said: str
    matched: dict[str, Any] | None = None


@dataclass(frozen=True)
class Place:
    """Where a row stands: in a dataset (or file) by its number from 1, or among the generated."""

    where: str
    row: int


@dataclass
class Sieve:
    """Sifts one row after the other; what came through is there already for those behind it."""

    shape: Shape
    wishes: Wishes
    _questions: NearIndex[Place] = field(default_factory=NearIndex, init=False)
    _leaks: NearIndex[Place] = field(default_factory=lambda: NearIndex(contained=True), init=False)
    _leaked_answers: NearIndex[Place] = field(
        default_factory=lambda: NearIndex(contained=True), init=False
    )

    def know(self, where: str, pairs: Iterable[Pair]) -> None:
        """Rows that are there already."""
        for number, pair in enumerate(pairs, 1):
            self._questions.add(Place(where, number), pair.prompt)

    def guard(self, where: str, pairs: Iterable[Pair]) -> None:
        """Rows of an evaluation set: they must not be learned."""
        for number, pair in enumerate(pairs, 1):
            self._leaks.add(Place(where, number), pair.prompt)
            if len(pair.completion) >= _TELLING:
                self._leaked_answers.add(Place(where, number), pair.completion)

    def take(self, number: int, pair: Pair) -> None:
        """A generated row that came through."""
        self._questions.add(Place("generated", number), pair.prompt)

    def drop(self, pair: Pair) -> Drop | None:
        """Why the row is not kept; None where it comes through so far."""
        if (said := self.shape.problem(pair)) is not None:
            return Drop("schema", said)
        if (said := self._length_problem(pair)) is not None:
            return Drop("length", said)
        return self._leak(pair) or self._same(pair)

    def _length_problem(self, pair: Pair) -> str | None:
        least, most = self.wishes.min_characters, self.wishes.max_characters
        own = self.shape.completion
        wanted = Lengths(least or (1 if most else own.least), most or max(own.most, least or 0))
        return self.shape.prompt.problem(pair.prompt, "question") or (
            # Labels and diagrams are what they are; their form says enough.
            None if self.shape.kind == "label" else wanted.problem(pair.completion, "answer")
        )

    def _leak(self, pair: Pair) -> Drop | None:
        least = self.wishes.leak_similarity
        found = self._leaks.nearest(pair.prompt, least=least)
        if found is not None:
            return Drop("leakage", _near("question", found), _matched(found))
        if len(pair.completion) >= _TELLING:
            # Answers of one kind look alike more than questions do.
            found = self._leaked_answers.nearest(pair.completion, least=(1 + 3 * least) / 4)
            if found is not None:
                return Drop("leakage", _near("answer", found), _matched(found))
        return None

    def _same(self, pair: Pair) -> Drop | None:
        found = self._questions.nearest(pair.prompt, least=self.wishes.near_duplicate)
        if found is None:
            return None
        reason: Reason = "duplicate" if found.similarity == 1 else "near_duplicate"
        return Drop(reason, _near("question", found), _matched(found))


def _near(what: str, match: Match[Place]) -> str:
    place = match.name
    return f"The {what} is {match.similarity:.0%} the same as row {place.row:,} of {place.where}."


def _matched(match: Match[Place]) -> dict[str, Any]:
    return {
        "where": match.name.where,
        "row": match.name.row,
        "text": match.text[:_SHOWN],
        "similarity": round(match.similarity, 4),
    }
