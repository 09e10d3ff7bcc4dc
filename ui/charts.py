"""A run's measurements as the points of its charts. Knows no page and no database."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_POINTS = 600

# By the names of a metric row. A curve of validation has few points, and each of them counts.
VALIDATION = ("eval_loss", "eval_mean_token_accuracy")
CURVES = (
    "loss",
    "mean_token_accuracy",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "memory_bytes",
    *VALIDATION,
)
Point = tuple[float, float | None]


def points_json(curves: dict[str, Sequence[Point]], *, since: int = 0) -> str:
    """For the charts' script: the curves as two lists each, x and y, with null where something
    was measured that is no number. They replace what the page has drawn from step ``since`` on."""
    shown = {
        name: [[round(x, 4) for x, _ in points], [_rounded(y) for _, y in points]]
        for name, points in curves.items()
        if points
    }
    return json.dumps({"since": since, "curves": shown}, separators=(",", ":"))


def curves_of(
    rows: Iterable[Any], *, names: Sequence[str] = CURVES, x: str = "step", limit: int = MAX_POINTS
) -> dict[str, Sequence[Point]]:
    """The curves in ``rows`` of measurements, each thinned out to ``limit`` points."""
    rows = list(rows)
    curves: dict[str, Sequence[Point]] = {}
    for name in names:
        points = [
            (getattr(row, x), value) for row in rows if (value := getattr(row, name)) is not None
        ]
        curves[name] = points if name in VALIDATION else thinned(points, limit=limit)
    return curves


def thinned(points: Sequence[Point], *, limit: int = MAX_POINTS) -> Sequence[Point]:
    """At most ``limit`` points that look the same: the first, the last, and of each stretch
    between them the lowest and the highest, so that no spike is lost."""
    if len(points) <= limit:
        return points
    inner, stretches = points[1:-1], max(1, (limit - 2) // 2)
    kept = [points[0]]
    for index in range(stretches):
        begin, end = (len(inner) * place // stretches for place in (index, index + 1))
        kept += _extremes(inner[begin:end])
    return [*kept, points[-1]]


def _extremes(stretch: Sequence[Point]) -> list[Point]:
    """The lowest and the highest in their order; of nothing but gaps, one."""
    measured = [(y, x) for x, y in stretch if y is not None and math.isfinite(y)]
    if not measured:
        return [(x, None) for x, _ in stretch[:1]]
    ends = {(x, y) for y, x in (min(measured), max(measured))}
    return sorted(ends)


def _rounded(value: float | None) -> float | None:
    # JSON has no NaN; a run that diverged has gaps in its curve.
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")


@dataclass(frozen=True)
class Line:
    """A curve of a chart; ``color`` is one of the stylesheet's, 1 to 6."""

    curve: str
    label: str
    color: int = 1


@dataclass(frozen=True)
class Chart:
    """``format``: how the script writes its values (loss, rate, count, bytes, percent)."""

    title: str
    format: str
    lines: tuple[Line, ...]

    @property
    def lines_json(self) -> str:
        return json.dumps([[line.curve, line.label, line.color] for line in self.lines])


RUN_CHARTS = (
    Chart("Loss", "loss", (Line("loss", "Training"), Line("eval_loss", "Validation", 2))),
    Chart(
        "Token accuracy",
        "percent",
        (
            Line("mean_token_accuracy", "Training"),
            Line("eval_mean_token_accuracy", "Validation", 2),
        ),
    ),
    Chart("Learning rate", "rate", (Line("learning_rate", "Rate"),)),
    Chart("Gradient norm", "rate", (Line("grad_norm", "Norm"),)),
    Chart("Speed", "count", (Line("tokens_per_second", "Tokens/s"),)),
    Chart("Memory, at most", "bytes", (Line("memory_bytes", "Held"),)),
)
