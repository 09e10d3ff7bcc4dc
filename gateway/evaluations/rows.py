"""Single examples of an evaluation, with what each candidate answered: the worst, the best, those
where a candidate differs most from the baseline. Only reads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from gateway.database import Database
from gateway.evaluations.stored import Work, read_stored
from gateway.evaluations.views import owned
from gateway.paging import MAX_LIMIT, Page
from shared.errors import InvalidRequest

Order = Literal["place", "worst", "best", "gains", "losses", "differences"]
ORDERS: tuple[Order, ...] = ("place", "worst", "best", "gains", "losses", "differences")


class AnswerView(BaseModel):
    """``scores`` by metric; ``error``: why there is no answer."""

    candidate: int
    name: str
    text: str
    finish_reason: str
    completion_tokens: int
    seconds: float
    served_by: str
    rendered: bool | None
    error: str | None
    scores: dict[str, float | None]
    verdicts: dict[str, Any] | None


class ExampleView(BaseModel):
    place: int
    row: int
    tag: str | None
    messages: list[dict[str, Any]]
    references: list[str]
    answers: list[AnswerView]


@dataclass(frozen=True)
class Wanted:
    """``metric`` None: the first one. ``candidate``: whose scores the order goes by."""

    order: Order = "place"
    metric: str | None = None
    candidate: int | None = None
    tag: str | None = None
    after: int | None = None
    limit: int = 20


def list_examples(
    *, database: Database, owner: str, evaluation_id: str, wanted: Wanted
) -> Page[ExampleView]:
    """Those without a score of the metric come in no order but their own."""
    with database.read() as session:
        owned(session, owner, evaluation_id)
    work = read_stored(database, evaluation_id)
    if not 1 <= wanted.limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit must lie between 1 and {MAX_LIMIT}.", param="limit")
    places = _ordered(work, wanted)
    if wanted.after is not None:
        if wanted.after not in places:
            raise InvalidRequest("after names nothing in this list.", param="after")
        places = places[places.index(wanted.after) + 1 :]
    shown = places[: wanted.limit]
    return Page([example_view(work, place) for place in shown], len(places) > len(shown))


def _ordered(work: Work, wanted: Wanted) -> list[int]:
    places = [
        place
        for place, example in enumerate(work.examples)
        if wanted.tag is None or example.tag == wanted.tag
    ]
    if wanted.order == "place":
        return places
    metric, candidate = _metric(work, wanted), _candidate(work, wanted)
    baseline = work.spec.baseline_place

    def score(place: int, number: int) -> float | None:
        found = work.answers.get((number, place))
        return (found.scores or {}).get(metric) if found else None

    def change(place: int) -> float | None:
        own, before = score(place, candidate), score(place, baseline)
        return None if own is None or before is None else own - before

    worth: Callable[[int], float | None] = (
        (lambda place: score(place, candidate)) if wanted.order in ("worst", "best") else change
    )
    known = {place: value for place in places if (value := worth(place)) is not None}
    # Of perplexity the lowest is the best.
    sign = -1 if metric == "perplexity" else 1
    keys: dict[Order, Callable[[float], float]] = {
        "worst": lambda value: sign * value,
        "losses": lambda value: sign * value,
        "best": lambda value: -sign * value,
        "gains": lambda value: -sign * value,
        "differences": lambda value: -abs(value),
    }
    return sorted(known, key=lambda place: (keys[wanted.order](known[place]), place))


def _metric(work: Work, wanted: Wanted) -> str:
    names = work.settings().metrics
    if wanted.metric is None:
        return names[0]
    if wanted.metric not in names:
        raise InvalidRequest(f"metric must be one of {', '.join(names)}.", param="metric")
    return wanted.metric


def _candidate(work: Work, wanted: Wanted) -> int:
    if wanted.candidate is None:
        others = (n for n in range(len(work.candidates)) if n != work.spec.baseline_place)
        return next(others, 0)
    if not 0 <= wanted.candidate < len(work.candidates):
        raise InvalidRequest(
            f"candidate must lie between 0 and {len(work.candidates) - 1}.", param="candidate"
        )
    return wanted.candidate


def example_view(work: Work, place: int) -> ExampleView:
    example = work.examples[place]
    answers = []
    for number, candidate in enumerate(work.candidates):
        if (found := work.answers.get((number, place))) is not None:
            fields = found.model_dump(include=set(AnswerView.model_fields) - {"scores"})
            answers.append(
                AnswerView(**fields, name=candidate.name, scores=dict(found.scores or {}))
            )
    return ExampleView(
        place=place,
        row=example.row,
        tag=example.tag,
        messages=list(example.messages),
        references=list(example.targets),
        answers=answers,
    )
