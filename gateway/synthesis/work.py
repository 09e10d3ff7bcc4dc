"""Has rows generated and sifted until there are enough. Knows neither database nor files: what was
answered and decided is kept by a `Store`: after a stop the rest is done, and nothing twice.

Requests go in rounds: the rows that earlier rounds kept are examples for later ones, whoever was
faster.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from gateway.synthesis import judging
from gateway.synthesis.filtering import Drop, Sieve
from gateway.synthesis.generating import Aim, Request, body, request
from gateway.synthesis.pairs import Pair
from gateway.synthesis.reading import rows_in
from gateway.synthesis.shape import Shape, shape_of
from gateway.synthesis.spec import MAX_ANSWER, Wishes
from shared.errors import GenPlatError
from shared.tasks import each

ROUND = 16
_JUDGES_EXAMPLES = 2

Body = dict[str, Any]
Status = Literal["dropped", "pending"]


@dataclass(frozen=True)
class Answer:
    """What came of a request. ``error``: why nothing did."""

    text: str = ""
    cut_off: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Row:
    """A generated row and what became of it. ``number`` counts all rows from 1."""

    number: int
    request: int
    pair: Pair
    aim: str = ""
    axis: str = ""
    drop: Drop | None = None
    score: float | None = None
    judged: str = ""
    rendered: bool | None = None

    @property
    def kept(self) -> bool:
        return self.drop is None


class Store(Protocol):
    """What was done before, and where more goes. What it was told is safe when it returns; rows
    that it has already are written over."""

    async def answers(self) -> Mapping[int, Answer]: ...
    async def rows(self) -> Sequence[Row]: ...
    async def keep_answer(self, number: int, answer: Answer) -> None: ...
    async def keep_rows(self, rows: Sequence[Row]) -> None: ...


@dataclass(frozen=True)
class Parts:
    """Who is asked, so many ``at_once``. ``judge`` where rows are judged; ``renders`` says why a
    diagram does not (None: it does)."""

    generate: Callable[[Body], Awaitable[Body]]
    judge: Callable[[Body], Awaitable[Body]] | None
    renders: Callable[[str], Awaitable[str | None]] | None
    at_once: int


@dataclass(frozen=True)
class Plan:
    """What is to be done: ``seeds`` by where they stand are there already, ``guarded`` rows must
    not come out again."""

    wishes: Wishes
    aims: Sequence[Aim]
    seeds: Mapping[str, Sequence[Pair]]
    guarded: Mapping[str, Sequence[Pair]] = field(default_factory=dict)

    @property
    def shape(self) -> Shape:
        return shape_of([pair for aim in self.aims for pair in aim.pairs])

    def sieve(self) -> Sieve:
        found = Sieve(self.shape, self.wishes)
        for where, pairs in self.seeds.items():
            found.know(where, pairs)
        for where, pairs in self.guarded.items():
            found.guard(where, pairs)
        return found


def draws(plan: Plan) -> bool:
    """Whether rows have to render."""
    wished = plan.wishes.render
    return plan.shape.kind == "diagram" if wished == "auto" else wished


async def produce(plan: Plan, parts: Parts, store: Store) -> list[Row]:
    """All rows, kept and dropped, once there are as many as wanted or no request is left."""
    answers, rows = await store.answers(), await store.rows()
    return await _Production(plan, parts, store, answers, rows).all()


class _Production:
    """``answers`` and ``rows`` were stored before."""

    def __init__(
        self,
        plan: Plan,
        parts: Parts,
        store: Store,
        answers: Mapping[int, Answer],
        rows: Iterable[Row],
    ) -> None:
        self._plan, self._parts, self._store = plan, parts, store
        self._wishes, self._shape, self._draws = plan.wishes, plan.shape, draws(plan)
        self._rows: list[Row] = []
        self._answers = dict(answers)
        self._known: dict[int, list[Row]] = {}
        for row in rows:
            self._known.setdefault(row.request, []).append(row)

    async def all(self) -> list[Row]:
        sieve = await asyncio.to_thread(self._plan.sieve)
        number = 0
        while (left := self._wishes.count - len(self._kept())) > 0:
            wanted = min(ROUND, math.ceil(left / self._wishes.per_request))
            last = min(number + wanted, self._wishes.request_limit)
            if number >= last:
                break
            made = [row.pair for row in self._kept()]
            asked = [
                request(one, wishes=self._wishes, aims=self._plan.aims, made=made)
                for one in range(number, last)
            ]
            await self._answer(asked)
            sifted = await asyncio.to_thread(self._sifted, asked, sieve)
            decided = await self._decided(sifted, {one.number: one for one in asked})
            self._rows += await self._without_surplus(decided)
            number = last
        return self._rows

    def _kept(self) -> list[Row]:
        return [row for row in self._rows if row.kept]

    async def _answer(self, asked: Sequence[Request]) -> None:
        """Have those answered that were not before."""

        async def answer(one: Request) -> None:
            said = body(one, wishes=self._wishes, aims=self._plan.aims, shape=self._shape)
            found = await _answer(self._parts.generate, said)
            await self._store.keep_answer(one.number, found)
            self._answers[one.number] = found

        left = [one for one in asked if one.number not in self._answers]
        await each(left, answer, at_once=self._parts.at_once)

    def _sifted(self, asked: Sequence[Request], sieve: Sieve) -> list[Row]:
        """The rows of a round, in order, read out of the answers."""
        rows: list[Row] = []
        number = len(self._rows)
        for one in asked:
            for row in self._raw(one, self._answers[one.number], number + len(rows)):
                drop = row.drop or sieve.drop(row.pair)
                if drop is None:
                    sieve.take(row.number, row.pair)
                rows.append(replace(row, drop=drop))
        return rows

    def _raw(self, asked: Request, answer: Answer, before: int) -> Iterable[Row]:
        aim = self._plan.aims[asked.aim].label
        row = Row(before + 1, asked.number, Pair("", ""), aim, asked.axis or "")
        pairs = rows_in(answer.text, cut_off=answer.cut_off)
        if not pairs:
            said = answer.error or "There is no row in the answer: " + answer.text[:300]
            yield replace(row, drop=Drop("unreadable", said))
        for place, pair in enumerate(pairs[: 2 * self._wishes.per_request]):
            yield replace(row, number=before + 1 + place, pair=pair)

    async def _decided(self, rows: Sequence[Row], asked: Mapping[int, Request]) -> list[Row]:
        """What the sieve let through is drawn and judged, and stored with all others of its
        request."""
        decided: dict[int, Row] = {}

        async def decide(number: int) -> None:
            own = [row for row in rows if row.request == number]
            known = self._known.get(number)
            if known is None:
                known = [await self._weighed(row, asked[number]) for row in own]
                await self._store.keep_rows(known)
            decided.update({row.number: row for row in known})

        await each(asked, decide, at_once=self._parts.at_once)
        return [decided[number] for number in sorted(decided)]

    async def _weighed(self, row: Row, asked: Request) -> Row:
        """Drawn and judged, where that is wanted and the row came so far."""
        if row.drop is None and self._draws and self._parts.renders is not None:
            why = await self._parts.renders(row.pair.completion)
            row = replace(row, rendered=why is None)
            if why is not None:
                row = replace(row, drop=Drop("render", why))
        if row.drop is None and self._parts.judge is not None:
            row = await self._judged(row, asked, self._parts.judge)
        return row

    async def _judged(
        self, row: Row, asked: Request, judge: Callable[[Body], Awaitable[Body]]
    ) -> Row:
        said = judging.body(
            row.pair,
            rubric=self._wishes.rubric,
            examples=asked.shots[:_JUDGES_EXAMPLES],
            seed=self._wishes.seed,
        )
        answer = await _answer(judge, said)
        verdict = judging.verdict_in(answer.text)
        row = replace(row, score=verdict.score, judged=answer.error or verdict.reason)
        if verdict.score is None or verdict.score < self._wishes.min_score:
            given = "no score" if verdict.score is None else f"{verdict.score:g}"
            return replace(row, drop=Drop("judge", f"The judge gave {given}. {row.judged}"))
        return row

    async def _without_surplus(self, rows: Sequence[Row]) -> list[Row]:
        left = self._wishes.count - len(self._kept())
        found = without_surplus(rows, left)
        changed = [row for row, before in zip(found, rows, strict=True) if row is not before]
        if changed:
            await self._store.keep_rows(changed)
        return found


def without_surplus(rows: Iterable[Row], wanted: int) -> list[Row]:
    """The same rows; of those that are kept, only the first so many still are."""
    found: list[Row] = []
    for row in rows:
        if row.kept and wanted <= 0:
            row = replace(row, drop=Drop("surplus", "There were enough rows before this one."))
        wanted -= row.kept
        found.append(row)
    return found


async def _answer(ask: Callable[[Body], Awaitable[Body]], said: Body) -> Answer:
    """One request that comes to nothing ends no other; `AnswersEnded` goes through."""
    try:
        answer = await ask(said)
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        text = choice["message"].get("content")
        return Answer(
            text=_storable(text) if isinstance(text, str) else "",
            cut_off=choice.get("finish_reason") == "length",
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
        )
    except GenPlatError as error:
        return Answer(error=error.message)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return Answer(error="The answer cannot be read.")


def _storable(text: str) -> str:
    return text[:MAX_ANSWER].replace("\x00", "").encode(errors="replace").decode()
