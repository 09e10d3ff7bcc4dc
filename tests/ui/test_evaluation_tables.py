"""Numbers of evaluations as texts and as places in a chart."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.ui.gallery_evaluations import evaluation, report
from ui.evaluation_tables import (
    LEFT,
    RIGHT,
    interval_chart,
    number,
    p_text,
    scale,
    shown_results,
    signed,
)

# (Perplexities of a broken model are anything.)
FINITE = st.floats(-1e9, 1e9, allow_nan=False) | st.floats(0, 1e300)


@given(st.lists(FINITE, max_size=6), st.sampled_from(["share", "points", "number"]))
@example([-5e-324], "share")
@example([5.0, -5e-324], "share")
@example([0.29999999999999998, 0.7], "number")
@example([1e300, 1e300 * (1 + 1e-15)], "number")
def test_a_scale_holds_all_values_and_has_few_marks(values: list[float], unit: str) -> None:
    first, last, step = scale(values, unit)
    assert first < last and step > 0
    assert all(first <= value <= last for value in values)
    assert 1 <= round((last - first) / step) <= 11


def test_places_of_a_chart_lie_in_it_and_in_order() -> None:
    found = [("a", {"value": 0.5, "low": 0.4, "high": 0.7}), ("b", dict.fromkeys(KEYS))]
    chart = interval_chart("ROUGE-L", found, "share")
    known, unknown = chart.bars
    assert known.low is not None and known.at is not None and known.high is not None
    assert LEFT <= known.low < known.at < known.high <= RIGHT
    assert (unknown.at, unknown.text) == (None, "–")
    places = [place for place, _ in chart.ticks]
    assert (places[0], places[-1]) == (LEFT, RIGHT)


KEYS = ("value", "low", "high")


def test_only_what_is_sure_is_called_better() -> None:
    rows = {row.name: row for row in shown_results(evaluation().model_dump()).metrics}
    assert rows["exact_match"].changes[0] is None
    gain, loss = rows["rougeL"].changes[1:]
    assert gain is not None and gain.verdict == "better"
    assert loss is not None and loss.verdict == "worse"
    # Longer is neither.
    assert rows["length"].changes[1] is not None and rows["length"].changes[1].verdict == ""
    # Its perplexity is the same.
    assert rows["perplexity"].changes[1] is not None and rows["perplexity"].changes[1].verdict == ""


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1234, "share", "+0.123"),
        (-1.5, "points", "−1.5"),
        (None, "share", "–"),
        (0, "points", "0.0"),
    ],
)
def test_differences_have_signs(value: float | None, unit: str, text: str) -> None:
    assert signed(value, unit) == text


def test_numbers() -> None:
    assert (number(123.456, "number"), number(1.5, "number")) == ("123.5", "1.50")
    assert number(1e300, "number") == "1e+300"
    assert (p_text(0.0004), p_text(0.04), p_text(None)) == ("< 0.001", "0.040", "–")


def test_a_report_is_one_file_without_scripts() -> None:
    html = report()
    assert html.startswith("<!doctype html>")
    assert "<script" not in html and "&lt;script&gt;alert" in html
    assert "http://" not in html and "https://" not in html and "/static/" not in html
