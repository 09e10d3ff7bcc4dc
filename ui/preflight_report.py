"""A pre-flight report as a page shows it: bars, rows of tables, words for numbers."""

from typing import Any, NamedTuple

from shared.memory import MemoryEstimate
from shared.preflight import LengthReport, PreflightReport
from ui import formats


class Bar(NamedTuple):
    """A bar of a histogram, in the coordinates of a drawing 100 high; ``over``: beyond the
    limit."""

    x: float
    y: float
    height: float
    title: str
    over: bool


class Lengths(NamedTuple):
    """One histogram. ``width`` of the drawing; bars are 10 wide."""

    report: LengthReport
    width: int
    bars: list[Bar]
    sentence: str


class PreflightView(NamedTuple):
    lengths: list[Lengths]
    memory: list[tuple[str, int]]
    numbers: list[tuple[str, str]]
    changes: list[tuple[str, str]]


_PURPOSES = (
    ("weights", "Weights"),
    ("gradients", "Gradients"),
    ("optimizer", "Optimizer"),
    ("activations", "Activations"),
    ("evaluation_peak", "Evaluation, instead of activations"),
    ("overhead", "Program and libraries"),
)
_BAR, _STEP, _HIGH = 10, 12, 100


def report_view(report: PreflightReport) -> PreflightView:
    numbers = report.hyperparameters.model_dump() if report.hyperparameters else {}
    changes = (report.memory.changes if report.memory else None) or {}
    return PreflightView(
        lengths=[_histogram(length) for length in report.lengths],
        memory=_purposes(report.memory.need) if report.memory else [],
        numbers=[(name, _written(value)) for name, value in numbers.items()],
        changes=[(name, _written(value)) for name, value in changes.items()],
    )


def _purposes(need: MemoryEstimate) -> list[tuple[str, int]]:
    return [(title, getattr(need, name)) for name, title in _PURPOSES]


def _histogram(report: LengthReport) -> Lengths:
    highest = max(each.count for each in report.histogram)
    bars = []
    for place, each in enumerate(report.histogram):
        height = round(each.count / highest * _HIGH, 1)
        bars.append(
            Bar(
                x=place * _STEP,
                y=round(_HIGH - height, 1),
                height=height,
                title=f"{each.start} to {each.end - 1} tokens: {formats.plural(each.count, 'row')}",
                over=each.start > report.limit,
            )
        )
    return Lengths(report, len(bars) * _STEP - (_STEP - _BAR), bars, _sentence(report))


def _sentence(report: LengthReport) -> str:
    if not report.over:
        return f"All fit into {report.field} {report.limit:,}."
    rows = formats.plural(report.over, report.what)
    verb = "is" if report.over == 1 else "are"
    return f"{rows} over {report.field} {report.limit:,} {verb} {report.fate}."


def _written(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
