"""Experiments and migrations as pages show them: words for figures, and their forms."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ui import formats
from ui.sequence_plot import SequencePlot, sequence_plot

OUTCOMES = [
    ("thumbs", "Thumbs: share of good ones"),
    ("judge", "A judge’s score: from 0 to 1"),
    ("rendered", "Diagrams: share that renders"),
    ("answered", "Answers: share that comes without trouble"),
    ("latency", "Time: seconds to the whole answer"),
]
GOALS = [
    ("superiority", "It is better"),
    ("non_inferiority", "It is not worse, but for a margin"),
]
SETBACKS = [("step_back", "One step back"), ("start", "Back to the start")]
STATES = {
    "waits": "waits",
    "runs": "under way",
    "held": "held",
    "set_back": "did not hold",
}
IN_WORDS = {name: text.partition(":")[0] for name, text in OUTCOMES}


class Figures(NamedTuple):
    """Where an experiment stands. ``guards``: name, what is measured, what is allowed, whether it
    was crossed."""

    facts: list[tuple[str, str]]
    guards: list[tuple[str, str, str, bool]]
    plot: SequencePlot | None
    share_of_needed: float | None


def figures(experiment: Any) -> Figures | None:
    """None before the first look."""
    standing = experiment.standing
    if standing is None:
        return None
    seconds = experiment.terms.outcome == "latency"

    def difference(value: float) -> str:
        return f"{value:+z.2f} s" if seconds else f"{100 * value:+z.1f} points"

    def rate(arm: Any) -> str:
        if arm.rate is None:
            return formats.MISSING
        shown = f"{arm.rate:.2f} s" if seconds else formats.percent(arm.rate)
        return f"{shown} of {formats.number(arm.units)}"

    needed = standing.needed_units
    facts = [
        (standing.treatment.label, rate(standing.treatment)),
        (standing.control.label, rate(standing.control)),
        ("Better by", _interval(standing, difference)),
        ("To be above", difference(standing.null)),
        ("p-value, at any time", f"{standing.p_value:.3f}"),
        ("Units so far", f"{standing.units:,}" + (f" of about {needed:,}" if needed else "")),
        ("Days left, at this pace", _days(standing)),
        (f"Errors of {standing.treatment.label}", _errors(standing.treatment)),
        (f"Errors of {standing.control.label}", _errors(standing.control)),
        (f"Half of {standing.treatment.label} within", _seconds(standing.treatment.p50_seconds)),
    ]
    guards = [
        (
            _guard_in_words(guard.name),
            formats.percent(guard.value),
            formats.percent(guard.limit),
            guard.tripped,
        )
        for guard in standing.guards
    ]
    plot = sequence_plot(
        experiment.looks,
        null=standing.null,
        needed=needed,
        text=difference,
        farthest=math.inf if seconds else 1.0,
    )
    progress = min(1.0, standing.units / needed) if needed else None
    return Figures(facts, guards, plot, progress)


def _errors(arm: Any) -> str:
    return f"{arm.errors:,} of {arm.requests:,} requests"


def _guard_in_words(name: str) -> str:
    """``max_error_increase``, or ``p95_seconds 5 (…)``."""
    quantile, _, rest = name.partition("_seconds ")
    if not rest:
        return "More errors than the control"
    return f"Answers slower than {rest.partition(' ')[0]} s ({quantile})"


def _interval(standing: Any, text: Callable[[float], str]) -> str:
    if standing.difference is None:
        return "nothing known yet"
    low = text(standing.low).partition(" ")[0]
    return f"{text(standing.difference)} ({low} to {text(standing.high)})"


def _seconds(value: float | None) -> str:
    return formats.MISSING if value is None else f"{value:.1f} s"


def _days(standing: Any) -> str:
    if standing.days_left is None:
        return formats.MISSING
    return "under one" if standing.days_left < 1 else f"about {round(standing.days_left)}"


def forecast_texts(forecasts: Sequence[Any]) -> list[str]:
    """A sentence for each step."""
    return [_forecast_text(forecast) for forecast in forecasts]


def _forecast_text(forecast: Any) -> str:
    name = formats.sentence(formats.share(forecast.share))
    if forecast.needed_units is None:
        return f"{name}: no number of units would be enough for this."
    needed = f"{name}: about {forecast.needed_units:,} units"
    if forecast.days is None:
        return f"{needed}. Nothing of the kind was logged here in the last days."
    days = "under a day" if forecast.days < 1 else f"about {forecast.days:,.0f} days"
    return f"{needed}, {days} at {forecast.units_a_day:,.0f} a day."


EXPERIMENT_FORM = {
    "control": "",
    "treatment": "",
    "share": "50",
    "outcome": "thumbs",
    "judge": "",
    "goal": "superiority",
    "effect": "5",
    "max_error_increase": "2",
    "p95_seconds": "",
    "max_days": "28",
    "on_failure": "roll_back",
}
MIGRATION_FORM = {
    "from": "",
    "to": "",
    "outcome": "thumbs",
    "judge": "",
    "margin": "5",
    "steps": "0, 10, 50, 100",
    "on_setback": "step_back",
    "max_error_increase": "2",
    "p95_seconds": "",
    "max_days": "28",
}


def parse_experiment(values: Mapping[str, str]) -> dict[str, Any]:
    """What the form asks for, for the experiment's own model to check."""
    distance = "margin" if values["goal"] == "non_inferiority" else "min_effect"
    return _terms(values) | {
        "control": values["control"],
        "treatment": values["treatment"],
        "share": _hundredth(values["share"]),
        "goal": values["goal"],
        distance: _distance(values, "effect"),
        "on_failure": values["on_failure"],
    }


def parse_migration(values: Mapping[str, str]) -> dict[str, Any]:
    return _terms(values) | {
        "from": values["from"],
        "to": values["to"],
        "margin": _distance(values, "margin"),
        "steps": [_hundredth(step) for step in values["steps"].split(",") if step.strip()],
        "on_setback": values["on_setback"],
    }


def _terms(values: Mapping[str, str]) -> dict[str, Any]:
    return {
        "outcome": values["outcome"],
        "judge": values["judge"].strip() or None,
        "max_days": values["max_days"],
        "guardrails": {
            "max_error_increase": _hundredth(values["max_error_increase"]),
            "p95_seconds": values["p95_seconds"] or None,
        },
    }


def _distance(values: Mapping[str, str], field: str) -> Any:
    """Percentage points, or seconds where the outcome is a time."""
    return values[field] if values["outcome"] == "latency" else _hundredth(values[field])


def _hundredth(text: str) -> Any:
    """What is no number is left to the model, which says so."""
    try:
        return float(text.strip().removesuffix("%")) / 100 if text.strip() else None
    except ValueError:
        return text.strip()
