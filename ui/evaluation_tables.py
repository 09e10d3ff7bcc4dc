"""An evaluation's results as its page and its report show them: numbers as texts, intervals as
places in a chart. Knows no page and no database."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ui.formats import MISSING
from ui.rendering import STATIC

# Of a chart, in its own units.
WIDTH = 400
LEFT, RIGHT = 8, 392
ROW = 26
SURE = 0.05
# Values this close together are one on a scale.
_ALIKE = 1e-9
HUGE = 1e6


@dataclass(frozen=True)
class Bar:
    """A value with its interval as a line of a chart: ``at``, ``low`` and ``high`` are places."""

    name: str
    text: str
    color: int
    y: int
    at: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class IntervalChart:
    """``ticks``: places on the scale with what they mean."""

    title: str
    note: str
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    height: int


@dataclass(frozen=True)
class Change:
    """What a candidate is beyond the baseline. ``verdict``: better, worse, or "" where it is not
    sure."""

    text: str
    interval: str
    p_value: str
    verdict: str
    test: str


@dataclass(frozen=True)
class MetricRow:
    title: str
    name: str
    signature: str
    values: tuple[tuple[str, str], ...]
    changes: tuple[Change | None, ...]


@dataclass(frozen=True)
class SliceRow:
    by: str
    name: str
    examples: int
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Shown:
    names: tuple[str, ...]
    metrics: tuple[MetricRow, ...]
    charts: tuple[IntervalChart, ...]
    slice_metric: str
    slices: tuple[SliceRow, ...]
    slice_charts: tuple[IntervalChart, ...]


def report_style() -> str:
    """The report's style sheet as an address that holds it all."""
    sheet = (STATIC / "report.css").read_bytes()
    return f"data:text/css;base64,{base64.b64encode(sheet).decode()}"


def shown_results(evaluation: dict[str, Any]) -> Shown:
    """``evaluation``: an evaluation with results, as the API gives it."""
    results = evaluation["results"]
    metrics, candidates = results["metrics"], results["candidates"]
    names = tuple(candidate["name"] for candidate in candidates)
    main = metrics[0]
    return Shown(
        names=names,
        metrics=tuple(_metric_row(metric, results, evaluation["baseline"]) for metric in metrics),
        charts=tuple(
            interval_chart(
                metric["title"],
                [
                    (name, candidate["metrics"][metric["name"]])
                    for name, candidate in zip(names, candidates, strict=True)
                ],
                metric["unit"],
            )
            for metric in metrics
            if any(one["metrics"][metric["name"]]["value"] is not None for one in candidates)
        ),
        slice_metric=main["title"],
        slices=tuple(
            SliceRow(
                one["by"],
                one["name"],
                one["examples"],
                tuple(
                    _value(candidate["metrics"][main["name"]], main["unit"])
                    for candidate in one["candidates"]
                ),
            )
            for one in results["slices"]
        ),
        slice_charts=tuple(
            interval_chart(
                one["name"],
                [
                    (name, candidate["metrics"][main["name"]])
                    for name, candidate in zip(names, one["candidates"], strict=True)
                ],
                main["unit"],
                note=f"{one['examples']} examples",
            )
            for one in results["slices"]
        ),
    )


def _metric_row(metric: dict[str, Any], results: dict[str, Any], baseline: int) -> MetricRow:
    name, unit = metric["name"], metric["unit"]
    changes: list[Change | None] = [None] * len(results["candidates"])
    for comparison in results["comparisons"]:
        changes[comparison["candidate"]] = _change(comparison["metrics"][name], metric)
    assert changes[baseline] is None  # noqa: S101 - it is compared with, not compared
    values = tuple(_value(one["metrics"][name], unit) for one in results["candidates"])
    return MetricRow(metric["title"], name, metric["signature"], values, tuple(changes))


def _value(found: dict[str, Any], unit: str) -> tuple[str, str]:
    return number(found["value"], unit), interval_text(found["low"], found["high"], unit)


def _change(found: dict[str, Any], metric: dict[str, Any]) -> Change | None:
    if found["value"] is None:
        return None
    unit, p_adjusted = metric["unit"], found["p_adjusted"]
    low, high = found["low"], found["high"]
    apart = low is not None and high is not None and (low > 0 or high < 0)
    verdict = ""
    if apart and p_adjusted is not None and p_adjusted <= SURE and metric["better"] != "neither":
        verdict = "better" if (found["value"] > 0) == (metric["better"] == "higher") else "worse"
    return Change(
        text=signed(found["value"], unit),
        interval=f"{signed(low, unit)} to {signed(high, unit)}",
        p_value=p_text(p_adjusted),
        verdict=verdict,
        test=found["test"],
    )


def number(value: float | None, unit: str) -> str:
    if value is None:
        return MISSING
    if unit == "share":
        return f"{value:.3f}"
    if abs(value) >= HUGE:
        return f"{value:.3g}"
    return f"{value:.1f}" if unit == "points" or abs(value) >= 100 else f"{value:.2f}"


def signed(value: float | None, unit: str) -> str:
    text = number(value, unit)
    return f"+{text}" if value is not None and value > 0 else text.replace("-", "−")


def interval_text(low: float | None, high: float | None, unit: str) -> str:
    return "" if low is None or high is None else f"{number(low, unit)} to {number(high, unit)}"


def p_text(p_value: float | None) -> str:
    if p_value is None:
        return MISSING
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def interval_chart(
    title: str, values: Sequence[tuple[str, dict[str, Any]]], unit: str, *, note: str = ""
) -> IntervalChart:
    """Points with error bars, one below the other."""
    known = [
        found[name]
        for _, found in values
        for name in ("value", "low", "high")
        if found[name] is not None
    ]
    first, last, step = scale(known, unit)

    def place(value: float | None) -> float | None:
        if value is None:
            return None
        return round(LEFT + (RIGHT - LEFT) * (value - first) / (last - first), 1)

    bars = tuple(
        Bar(
            name=name,
            text=number(found["value"], unit),
            color=index % 6 + 1,
            y=ROW * index + ROW // 2,
            at=place(found["value"]),
            low=place(found["low"]),
            high=place(found["high"]),
        )
        for index, (name, found) in enumerate(values)
    )
    count = round((last - first) / step)
    marks = [first + step * index for index in range(count + 1)]
    ticks = tuple((place(mark) or 0.0, f"{mark:.3g}") for mark in marks)
    return IntervalChart(title, note, bars, ticks, ROW * len(bars) + 20)


def scale(values: Sequence[float], unit: str) -> tuple[float, float, float]:
    """The ends of a scale that holds all values, and a round step; shares begin at 0 unless all of
    them lie high."""
    if not values:
        return 0.0, 1.0, 0.5
    low, high = min(values), max(values)
    if high - low <= _ALIKE * max(1, abs(low), abs(high)):
        high = low
    whole = {"share": 1.0, "points": 100.0}.get(unit)
    if low == high and whole is not None and 0 <= low <= whole:
        return 0.0, whole, whole / 4
    if unit != "number" and low >= 0 and low < 0.6 * high:
        low = 0.0
    if high <= low:
        half = max(0.5 * abs(low), 1.0 if unit == "number" else 0.01)
        low, high = low - half, high + half
    raw = (high - low) / 4
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * size for size in (1, 2, 2.5, 5, 10) if power * size >= raw)
    first, last = math.floor(low / step) * step, math.ceil(high / step) * step
    # (Of what was rounded the last bit may lie on the wrong side.)
    return first - step * (first > min(values)), last + step * (last < max(values)), step
