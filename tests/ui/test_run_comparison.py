"""Runs side by side: which values are best, and which settings differ."""

from types import SimpleNamespace
from typing import Any

from shared.runs import FineTuneSpec
from ui.formats import loss
from ui.run_comparison import COLORS, charts_of, result_row, setting_rows


def run(decided: dict[str, Any] | None = None, **asked: Any) -> SimpleNamespace:
    spec = FineTuneSpec(base_model="org/model", dataset_id="ds_1", **asked)
    return SimpleNamespace(spec=spec.model_dump(mode="json"), hyperparameters=decided)


def test_the_best_of_different_values_is_marked() -> None:
    row = result_row("Loss", [0.5, None, 0.4, 0.4], loss, min)
    assert [cell.text for cell in row.cells] == ["0.5000", "–", "0.4000", "0.4000"]
    assert row.best == {2, 3}
    assert result_row("Loss", [0.5, 0.5, None], loss, min).best == frozenset()


def test_settings_are_compared_by_what_auto_became() -> None:
    runs = [run({"lora_r": 16, "lora_alpha": 32}), run({"lora_r": 16, "lora_alpha": 8}, lora_r=16)]
    rows = {row.name: row for row in setting_rows(runs, ["a v1", "a v1"])}
    assert not rows["lora_r"].differs and rows["lora_alpha"].differs
    assert [cell.note for cell in rows["lora_r"].cells] == ["auto", ""]
    assert not rows["data"].differs
    assert set(rows) == set(FineTuneSpec.model_fields) - {"dataset_id", "datasets", "suffix"} | {
        "data"
    }


def test_runs_older_than_a_field_can_be_compared() -> None:
    old = SimpleNamespace(spec={"method": "lora"}, hyperparameters=None)
    rows = {row.name: row for row in setting_rows([old, run()], ["a", "b"])}
    assert [cell.text for cell in rows["preset"].cells] == ["balanced", "balanced"]
    assert [cell.text for cell in rows["base_model"].cells] == ["–", "org/model"]


def test_each_run_has_a_colour_of_its_own() -> None:
    for chart in charts_of([f"run {n}" for n in range(COLORS)]):
        assert len({line.color for line in chart.lines}) == COLORS
        assert len({line.curve for line in chart.lines}) == COLORS
