"""Experiments as pages show them: the drawing, the words, the forms."""

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ui.gallery_trials import experiment
from ui import trials
from ui.sequence_plot import HEIGHT, WIDTH, sequence_plot

share = st.floats(-1, 1)
look = st.builds(
    SimpleNamespace,
    units=st.integers(0, 10**6),
    difference=st.none() | share,
    low=share,
    high=share,
)


@given(st.lists(look, max_size=30), share, st.none() | st.integers(1, 10**8))
def test_the_drawing_stays_in_its_frame(
    looks: list[SimpleNamespace], null: float, needed: int | None
) -> None:
    looks.sort(key=lambda one: one.units)
    plot = sequence_plot(looks, null=null, needed=needed, text=lambda value: f"{value:.2f}")
    if plot is None:
        assert not any(one.units and one.difference is not None for one in looks)
        return
    points = [float(number) for number in re.split("[ ,]", f"{plot.band} {plot.line}")]
    assert all(0 <= x <= WIDTH for x in points[::2])
    assert all(0 <= y <= HEIGHT for y in [*points[1::2], plot.null, plot.zero])


def test_better_is_higher_and_the_last_unit_is_at_the_right() -> None:
    looks = [
        SimpleNamespace(units=10, difference=0.0, low=-0.5, high=0.5),
        SimpleNamespace(units=20, difference=0.2, low=0.1, high=0.3),
    ]
    plot = sequence_plot(looks, null=0, needed=10_000, text=str)
    assert plot is not None and plot.right == "20 units"
    (_, first), (x, last) = (tuple(map(float, pair.split(","))) for pair in plot.line.split())
    assert x == WIDTH and last < first == plot.zero
    nearer = sequence_plot(looks, null=0, needed=40, text=str)
    assert nearer is not None and nearer.right == "40 units"


def test_the_frame_shows_no_difference_that_cannot_be() -> None:
    looks = [SimpleNamespace(units=2, difference=1.0, low=-0.8, high=1.0)]
    plot = sequence_plot(looks, null=0, needed=None, text=str, farthest=1.0)
    assert plot is not None and (plot.top, plot.bottom) == ("1.0", "-1.0")
    assert plot.band.split()[0].endswith(",0")
    wide = sequence_plot(looks, null=0, needed=None, text=str)
    assert wide is not None and wide.top == "1.4"


def test_figures_are_told_in_the_outcomes_own_unit() -> None:
    assert trials.figures(experiment(standing=None)) is None
    shown = trials.figures(experiment())
    assert shown is not None
    facts = dict(shown.facts)
    assert facts["mine"] == "82.0% of 640"
    assert facts["Better by"] == "+1.0 points (-3.0 to +5.0 points)"
    assert facts["Units so far"] == "1,280 of about 2,500"
    assert shown.share_of_needed == pytest.approx(0.512)
    assert [tripped for *_, tripped in shown.guards] == [False, True]
    timed = trials.figures(experiment(terms=SimpleNamespace(outcome="latency")))
    assert timed is not None and dict(timed.facts)["Better by"].startswith("+0.01 s")


def test_a_forecast_says_how_long_it_takes() -> None:
    def text(**changes: object) -> str:
        values = {"share": 0.1, "needed_units": 7600, "days": 3.4, "units_a_day": 2235.0} | changes
        return trials.forecast_texts([SimpleNamespace(**values)])[0]

    assert text() == "10%: about 7,600 units, about 3 days at 2,235 a day."
    assert text(days=0.2, share=0).startswith("Shadow: about 7,600 units, under a day")
    assert "Nothing of the kind" in text(days=None)
    assert "no number of units" in text(needed_units=None)


def test_forms_ask_for_what_they_say() -> None:
    asked = trials.parse_experiment(trials.EXPERIMENT_FORM | {"control": "a", "treatment": "b"})
    assert (asked["share"], asked["min_effect"], asked["control"]) == (0.5, 0.05, "a")
    assert asked["guardrails"] == {"max_error_increase": 0.02, "p95_seconds": None}
    asked = trials.parse_experiment(
        trials.EXPERIMENT_FORM | {"goal": "non_inferiority", "outcome": "latency", "effect": "2"}
    )
    assert asked["margin"] == "2" and "min_effect" not in asked
    walk = trials.parse_migration(trials.MIGRATION_FORM | {"steps": "0, 1%, x, 100"})
    assert walk["steps"] == [0, 0.01, "x", 1]
