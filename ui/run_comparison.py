"""Several runs side by side: what they came to, and in which settings they differ."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shared.runs import FineTuneSpec
from ui import formats
from ui.charts import Chart, Line

COLORS = 6


@dataclass(frozen=True)
class Cell:
    """A run's value; ``note`` says where it comes from."""

    text: str
    note: str = ""


@dataclass(frozen=True)
class ComparedRow:
    """A line of a comparison; ``best`` are the places of the best values, where one is better
    than another."""

    name: str
    cells: tuple[Cell, ...]
    best: frozenset[int] = frozenset()

    @property
    def differs(self) -> bool:
        return len({cell.text for cell in self.cells}) > 1


class Settings(Protocol):
    """The part of a run that says how it learns."""

    @property
    def spec(self) -> Mapping[str, Any]: ...
    @property
    def hyperparameters(self) -> Mapping[str, Any] | None: ...


def charts_of(names: Sequence[str]) -> tuple[Chart, ...]:
    """Curves of all runs in one chart each; those of the third run are called ``2.loss`` …"""

    def chart(title: str, curve: str, form: str) -> Chart:
        lines = (
            Line(f"{place}.{curve}", name, place % COLORS + 1) for place, name in enumerate(names)
        )
        return Chart(title, form, tuple(lines))

    return (
        chart("Training loss", "loss", "loss"),
        chart("Validation loss", "eval_loss", "loss"),
        chart("Token accuracy in validation", "eval_mean_token_accuracy", "percent"),
        chart("Learning rate", "learning_rate", "rate"),
    )


def result_row(
    name: str,
    values: Sequence[Any],
    form: Callable[[Any], str],
    better: Callable[[Sequence[Any]], Any] | None = None,
    notes: Sequence[str] = (),
) -> ComparedRow:
    """``better`` (min or max) picks the value that is marked, where they are not all the same."""
    notes = notes or [""] * len(values)
    cells = tuple(Cell(form(value), note) for value, note in zip(values, notes, strict=True))
    known = [value for value in values if value is not None]
    if better is None or len(set(known)) < 2:
        return ComparedRow(name, cells)
    best = better(known)
    return ComparedRow(
        name, cells, frozenset(place for place, value in enumerate(values) if value == best)
    )


def setting_rows(runs: Sequence[Settings], data: Sequence[str]) -> list[ComparedRow]:
    """One row a field of the spec. ``data``: what each run learns from, in words. Compared is what
    "auto" became, where a run has come that far."""
    rows = [ComparedRow("data", tuple(Cell(text) for text in data))]
    for name in FineTuneSpec.model_fields:
        if name not in ("dataset_id", "datasets", "suffix"):
            rows.append(ComparedRow(name, tuple(_setting(run, name) for run in runs)))
    return rows


def _setting(run: Settings, name: str) -> Cell:
    field = FineTuneSpec.model_fields[name]
    # An older run knows nothing of the fields that came after it.
    asked = run.spec.get(name, None if field.is_required() else field.default)
    decided = (run.hyperparameters or {}).get(name, asked)
    auto = "auto" if asked == "auto" and decided != "auto" else ""
    return Cell(_text(decided), auto)


def _text(value: Any) -> str:
    if value is None or value == "":
        return formats.MISSING
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
