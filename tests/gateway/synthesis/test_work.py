"""Rows are generated until there are enough; after a stop at any moment the rest is done."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.answering import AnswersEnded
from gateway.synthesis.generating import Aim
from gateway.synthesis.spec import Wishes
from gateway.synthesis.work import Answer, Parts, Plan, Row, produce
from shared.errors import InvalidRequest
from tests.gateway.parts import asynchronous
from tests.gateway.synthesis.writing import seed_rows, writes

SEEDS = seed_rows()


class Killed(Exception):
    """The process is gone."""


@dataclass
class Kept:
    """A store that dies before its so-many-th write."""

    dies_after: int = 10**9
    found: dict[int, Answer] = field(default_factory=dict)
    all_rows: dict[int, Row] = field(default_factory=dict)
    writes: int = 0

    async def answers(self) -> Mapping[int, Answer]:
        return self.found

    async def rows(self) -> Sequence[Row]:
        return [self.all_rows[number] for number in sorted(self.all_rows)]

    def _count(self) -> None:
        if self.writes >= self.dies_after:
            raise Killed
        self.writes += 1

    async def keep_answer(self, number: int, answer: Answer) -> None:
        self._count()
        assert number not in self.found, "asked twice"
        self.found[number] = answer

    async def keep_rows(self, rows: Sequence[Row]) -> None:
        self._count()
        self.all_rows |= {row.number: row for row in rows}


class Model:
    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()

    async def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked[body["seed"]] += 1
        await asyncio.sleep(0.001 * (body["seed"] % 3))
        return {"choices": [{"message": {"content": writes(body)}, "finish_reason": "stop"}]}


def plan(**changes: object) -> Plan:
    wishes = Wishes.model_validate({"model": "m", "count": 40, "per_request": 2} | changes)
    return Plan(wishes, [Aim(tuple(SEEDS))], {"seed": SEEDS})


def parts(model: Model, **changes: Any) -> Parts:
    return Parts(**{"generate": model, "judge": None, "renders": None, "at_once": 4} | changes)


@asynchronous
async def test_as_many_rows_as_are_wanted_each_unlike_the_others() -> None:
    store, model = Kept(), Model()
    rows = await produce(plan(), parts(model), store)
    kept = [row for row in rows if row.kept]
    assert len(kept) == 40 == len({row.pair.prompt for row in kept})
    reasons = Counter(row.drop.reason for row in rows if row.drop)
    assert set(reasons) <= {"duplicate", "near_duplicate", "length", "surplus"}
    assert reasons["duplicate"] + reasons["length"] >= 15
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert rows == await store.rows()


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_killed_again_and_again_it_goes_on_and_comes_to_the_same(every: int) -> None:
    whole = Kept()
    expected = asyncio.run(produce(plan(), parts(Model()), whole))
    store, model = Kept(), Model()
    for _ in range(200):
        store.writes, store.dies_after = 0, every
        try:
            rows = asyncio.run(produce(plan(), parts(model), store))
            break
        except Killed:
            continue
    assert rows == expected
    assert store.found == whole.found
    # What was stored was not asked again; what was under way when it died may have been.
    assert sum(model.asked.values()) <= len(store.found) + 4 * 200


@asynchronous
async def test_a_judge_and_a_renderer_drop_rows_and_say_why() -> None:
    async def renders(source: str) -> str | None:
        return "Syntax error in line 2." if "kettle" in source else None

    model = Model()
    asked = plan(judge="j", render=True, min_score=4)
    rows = await produce(asked, parts(model, judge=model, renders=renders), Kept())
    kept = [row for row in rows if row.kept]
    assert len(kept) == 40
    assert all(row.score == 5 and row.rendered for row in kept)
    assert not any("dragon" in row.pair.completion for row in kept)
    [said] = {row.drop.said for row in rows if row.drop and row.drop.reason == "render"}
    assert said == "Syntax error in line 2."
    judged = [row for row in rows if row.drop and row.drop.reason == "judge"]
    assert judged and all(row.score == 2 and "gave 2" in str(row.drop) for row in judged)


@asynchronous
async def test_a_model_that_writes_no_rows_is_not_asked_for_ever() -> None:
    async def silent(body: dict[str, Any]) -> dict[str, Any]:
        if body["seed"] % 2:
            raise InvalidRequest("This is too long.")
        return {"choices": [{"message": {"content": "I would rather not."}}]}

    rows = await produce(plan(max_requests=20), parts(Model(), generate=silent), Kept())
    assert len(rows) == 20
    said = {row.drop.said for row in rows if row.drop and row.drop.reason == "unreadable"}
    assert said == {"This is too long.", "There is no row in the answer: I would rather not."}


@asynchronous
async def test_where_nobody_answers_any_more_it_ends_and_nothing_is_lost() -> None:
    class Ended(Model):
        async def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
            if sum(self.asked.values()) >= 6:
                raise AnswersEnded("The model is gone.")
            return await super().__call__(body)

    store = Kept()
    with pytest.raises(AnswersEnded, match="is gone"):
        await produce(plan(), parts(Ended()), store)
    assert 1 <= len(store.found) <= 6
    assert len([row for row in await produce(plan(), parts(Model()), store) if row.kept]) == 40
