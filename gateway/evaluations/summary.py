"""What answers come to: each metric of each candidate with its interval, differences to the
baseline with their tests, slices, and the scores of single answers. Pure.

In and out are JSON-shaped, since it runs in a process of its own (`scoring`).
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from gateway.evaluations import statistics
from gateway.evaluations.answered import Answer, Asked, Settings
from gateway.evaluations.metrics.catalogue import metrics_of
from gateway.evaluations.metrics.kinds import Floats, Measured, Metric

Json = dict[str, Any]
# A slice of fewer examples says nothing.
FEWEST = 5
MAX_TAGS = 20
LENGTHS = ("short", "medium", "long")


class _Column:
    """A metric over all answers of one candidate, by the places of the examples."""

    def __init__(self, metric: Metric, answers: Sequence[Answer | None]) -> None:
        self.metric = metric
        there = [place for place, answer in enumerate(answers) if answer is not None]
        measured = metric.measure([answer for answer in answers if answer is not None])
        self.answers = answers
        self.measured: dict[int, Measured] = {
            place: one for place, one in zip(there, measured, strict=True) if one is not None
        }

    def among(self, places: Sequence[int]) -> list[int]:
        return [place for place in places if place in self.measured]

    def counts(self, places: Sequence[int]) -> Floats:
        return np.array([self.measured[place].counts for place in places], dtype=np.float64)

    def value(self, places: Sequence[int]) -> float:
        if not places:
            return math.nan
        answers = [answer for place in places if (answer := self.answers[place]) is not None]
        return self.metric.corpus(answers, self.counts(places).sum(axis=0))


def summarise(
    asked: Sequence[Asked], answers: Sequence[Sequence[Answer | None]], settings: Settings
) -> tuple[Json, list[list[Json | None]]]:
    """The results, and of each candidate the scores of its answers. None stands for an answer that
    could not be had: it is left out."""
    metrics = metrics_of(settings.metrics, [example.references for example in asked])
    table = [[_Column(metric, own) for metric in metrics] for own in answers]
    everything = range(len(asked))
    results: Json = {
        "examples": len(asked),
        "confidence": settings.confidence,
        "resamples": settings.resamples,
        "metrics": [_described(metric) for metric in metrics],
        "candidates": [
            {"metrics": _values(columns, everything, settings), "answered": _answered(own)}
            for columns, own in zip(table, answers, strict=True)
        ],
        "comparisons": [
            {
                "candidate": place,
                "baseline": settings.baseline,
                "metrics": _differences(table[settings.baseline], columns, settings, everything),
            }
            for place, columns in enumerate(table)
            if place != settings.baseline
        ],
        "slices": _slices(asked, table, settings),
    }
    return results, [_scores(columns, len(asked)) for columns in table]


def _described(metric: Metric) -> Json:
    names = ("name", "title", "unit", "better", "binary", "signature")
    return {name: getattr(metric, name) for name in names}


def _answered(answers: Sequence[Answer | None]) -> int:
    return sum(answer is not None for answer in answers)


def _values(columns: Sequence[_Column], places: Sequence[int], settings: Settings) -> Json:
    return {column.metric.name: _value(column, places, settings) for column in columns}


def _value(column: _Column, places: Sequence[int], settings: Settings) -> Json:
    kept = column.among(places)
    value = column.value(kept)
    found = statistics.Interval(math.nan, math.nan, "none")
    if kept:
        found = statistics.interval(
            column.counts(kept),
            column.metric.total,
            value=value,
            seed=settings.seed,
            bounds=column.metric.bounds,
            confidence=settings.confidence,
            resamples=settings.resamples,
        )
    return {
        "value": _number(value),
        "low": _number(found.low),
        "high": _number(found.high),
        "method": found.method,
        "examples": len(kept),
    }


def _differences(
    first: Sequence[_Column],
    second: Sequence[_Column],
    settings: Settings,
    places: Sequence[int],
) -> Json:
    found = {
        left.metric.name: _difference(left, right, settings, places)
        for left, right in zip(first, second, strict=True)
    }
    raised = statistics.holm([one.p_value for one in found.values()])
    return {
        name: {
            "value": _number(one.value),
            "low": _number(one.interval.low),
            "high": _number(one.interval.high),
            "p_value": _number(one.p_value),
            "p_adjusted": _number(p_adjusted),
            "test": one.test,
            "examples": one.examples,
        }
        for (name, one), p_adjusted in zip(found.items(), raised, strict=True)
    }


def _difference(
    first: _Column, second: _Column, settings: Settings, places: Sequence[int]
) -> statistics.Difference:
    """On the examples that both have answered."""
    both = second.among(first.among(places))
    if not both:
        nothing = statistics.Interval(math.nan, math.nan, "none")
        return statistics.Difference(math.nan, nothing, math.nan, "none", 0)
    return statistics.difference(
        first.counts(both),
        second.counts(both),
        first.metric.total,
        values=(first.value(both), second.value(both)),
        seed=settings.seed,
        binary=first.metric.binary,
        bounds=first.metric.bounds,
        confidence=settings.confidence,
        resamples=settings.resamples,
    )


def _slices(
    asked: Sequence[Asked], table: Sequence[Sequence[_Column]], settings: Settings
) -> list[Json]:
    found = []
    for by, groups in (("length", _by_length(asked)), ("tag", _by_tag(asked))):
        for name, places in groups.items():
            if len(places) < FEWEST:
                continue
            values = [{"metrics": _values(columns, places, settings)} for columns in table]
            found.append({"by": by, "name": name, "examples": len(places), "candidates": values})
    return found


def _by_length(asked: Sequence[Asked]) -> dict[str, list[int]]:
    """Three groups of about the same size, by the characters of what was asked."""
    lengths = [len(example.source) for example in asked]
    if len(set(lengths)) < len(LENGTHS) or len(asked) < FEWEST * len(LENGTHS):
        return {}
    ends = np.quantile(lengths, [1 / 3, 2 / 3])
    groups: dict[str, list[int]] = defaultdict(list)
    titles = (f"up to {ends[0]:.0f}", f"up to {ends[1]:.0f}", f"above {ends[1]:.0f}")
    for place, length in enumerate(lengths):
        size = int(np.searchsorted(ends, length))
        groups[f"{LENGTHS[size]} ({titles[size]} characters)"].append(place)
    return dict(sorted(groups.items(), key=lambda item: LENGTHS.index(item[0].split(" ")[0])))


def _by_tag(asked: Sequence[Asked]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for place, example in enumerate(asked):
        if example.tag:
            groups[example.tag].append(place)
    largest = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))[:MAX_TAGS]
    return dict(largest) if len(groups) > 1 else {}


def _scores(columns: Sequence[_Column], examples: int) -> list[Json | None]:
    scores: list[Json | None] = []
    for place in range(examples):
        own = {
            column.metric.name: _number(column.measured[place].value)
            for column in columns
            if place in column.measured
        }
        scores.append(own or None)
    return scores


def _number(value: float) -> float | None:
    """JSON has no NaN; more digits than these mean nothing."""
    return float(f"{value:.10g}") if math.isfinite(value) else None
