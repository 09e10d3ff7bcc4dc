"""Curves: few points that look the same, and nothing that JSON cannot say."""

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ui.gallery_objects import metrics
from ui.charts import CURVES, MAX_POINTS, RUN_CHARTS, curves_of, points_json, thinned


def curves(rows: list[Any], **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(points_json(curves_of(rows, **options)))["curves"]
    return found


def test_a_short_run_is_drawn_step_by_step() -> None:
    found = curves(metrics(84))
    assert found["loss"][0] == list(range(1, 85))
    assert found["eval_loss"][0] == [21, 42, 63, 84]


def test_a_long_run_is_thinned_out_but_keeps_evaluations_and_spikes() -> None:
    rows = metrics(20_000)
    found = curves(rows)
    assert all(len(found[name][0]) <= MAX_POINTS for name in CURVES if "eval" not in name)
    assert found["eval_loss"][0] == [row.step for row in rows if row.eval_loss is not None]
    assert found["loss"][0][-1] == 20_000
    assert max(found["grad_norm"][1]) == pytest.approx(max(row.grad_norm for row in rows), rel=1e-4)


def test_curves_go_over_epochs_where_these_are_asked_for() -> None:
    assert curves(metrics(2), x="epoch")["loss"][0] == [round(1 / 106, 4), round(2 / 106, 4)]


def test_a_measurement_that_is_no_number_is_a_gap() -> None:
    rows = [SimpleNamespace(step=1, loss=math.nan), SimpleNamespace(step=2, loss=math.inf)]
    assert curves(rows, names=["loss"]) == {"loss": [[1, 2], [None, None]]}
    assert curves([]) == {}
    assert json.loads(points_json({}, since=7)) == {"since": 7, "curves": {}}


VALUES = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.none())


@given(st.lists(VALUES, max_size=300), st.integers(4, 60))
def test_thinning_keeps_ends_and_extremes_in_order(values: list[float | None], limit: int) -> None:
    points = list(enumerate(values))
    kept = thinned(points, limit=limit)
    assert len(kept) <= max(limit, 4)
    assert list(kept[:1]) == points[:1] and list(kept[-1:]) == points[-1:]
    steps = [x for x, _ in kept]
    assert steps == sorted(set(steps))
    finite = [y for _, y in points if y is not None and math.isfinite(y)]
    still = [y for _, y in kept if y is not None and math.isfinite(y)]
    if finite:
        assert (min(still), max(still)) == (min(finite), max(finite))


def test_every_curve_has_its_place_in_a_chart() -> None:
    assert sorted(line.curve for chart in RUN_CHARTS for line in chart.lines) == sorted(CURVES)
