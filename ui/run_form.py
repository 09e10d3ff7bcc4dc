"""The form that starts a run, as it was filled in: a FineTuneSpec, or errors beside its fields."""

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from pydantic import ValidationError

from shared.runs import MAX_DATASETS, FineTuneSpec, WeightedDataset
from ui.form_errors import field_errors
from ui.run_fields import ADVANCED, AUTO, FIELDS, VALIDATION_SPLIT

# The fields that are not hyperparameters, as texts.
_CHOSEN = (
    "base_model",
    "dataset_id",
    "dataset_weight",
    "validation_dataset_id",
    "method",
    "preset",
    "suffix",
    "continue_from",
)
# Sent once a row: further datasets and their weights.
_ROWS = ("datasets", "weights")
MORE_ROWS = 3
# Everything that an error may be about.
NAMES = (*_CHOSEN, *_ROWS, *(field.name for field in FIELDS))

Values = dict[str, Any]
_EMPTY = {"id": "", "weight": "1"}


def initial_values(**chosen: Any) -> Values:
    """The form as it first stands: texts by name, and ``datasets``, the rows of further data."""
    values: Values = dict.fromkeys(_CHOSEN, "")
    values |= {"dataset_weight": "1", "method": "lora", "preset": "balanced", "datasets": []}
    return values | {field.name: field.default for field in FIELDS} | chosen


def submitted_values(sent: Mapping[str, Sequence[str]]) -> Values:
    """The form as it was sent: all texts of each name."""
    values = initial_values()
    for name in values:
        if name not in _ROWS and sent.get(name):
            values[name] = sent[name][-1]
    rows = zip_longest(sent.get("datasets", ()), sent.get("weights", ()), fillvalue="")
    values["datasets"] = [{"id": name, "weight": weight} for name, weight in rows if name]
    return values


def values_like(spec: Mapping[str, Any]) -> Values:
    """The form as it was for an earlier run."""
    known = (*_CHOSEN, *(field.name for field in FIELDS))
    values = initial_values(**{name: _text(name, spec[name]) for name in known if name in spec})
    if sources := spec.get("datasets"):
        rows = [{"id": one["id"], "weight": _weight_text(one["weight"])} for one in sources]
        values |= {"dataset_id": rows[0]["id"], "dataset_weight": rows[0]["weight"]}
        values["datasets"] = rows[1:]
    return values


def rows_to_show(values: Values) -> list[dict[str, str]]:
    """The rows of further data: those filled in, and some to fill."""
    rows: list[dict[str, str]] = values["datasets"]
    spare = max(1, MORE_ROWS - len(rows))
    return [*rows, *([_EMPTY] * spare)][: max(MAX_DATASETS - 1, len(rows))]


def _text(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return AUTO if name == "task_prefix" else ""
    return str(value)


def _weight_text(weight: float) -> str:
    return str(weight).removesuffix(".0")


def changed_advanced(values: Values, errors: Collection[str] = ()) -> bool:
    """Whether a hyperparameter is not at its default, so that the group should stand open."""
    return any(
        field.name in errors or values[field.name].strip() != field.default for field in ADVANCED
    )


def mixes(values: Values, errors: Collection[str] = ()) -> bool:
    """Whether there is more than one dataset of weight 1 to see."""
    weighted = values["dataset_weight"].strip() not in ("", "1")
    wrong = any(name == "datasets" or name.startswith("weight-") for name in errors)
    return bool(values["datasets"]) or weighted or wrong


def parse(values: Values) -> tuple[FineTuneSpec | None, dict[str, str]]:
    """The spec that a form asks for, or what is wrong with it by field. What concerns no field
    stands under the empty name."""
    data, errors = _data(values)
    asked: dict[str, Any] = {
        name: values[name].strip() for name in ("base_model", "method", "preset", "suffix")
    }
    asked |= data
    for name in ("validation_dataset_id", "continue_from"):
        asked[name] = values[name].strip() or None
    for field in FIELDS:
        # A prefix keeps its spaces, and an empty one says that there shall be none.
        prefix = field.name == "task_prefix"
        text = values[field.name] if prefix else values[field.name].strip()
        if text == AUTO or (not text and not prefix):
            continue
        if field is VALIDATION_SPLIT and asked["validation_dataset_id"]:
            # With validation data of its own, the share is hidden and has no say.
            continue
        try:
            asked[field.name] = field.parse(text)
        except ValueError as error:
            errors[field.name] = str(error)
    if errors:
        return None, errors
    try:
        return FineTuneSpec.model_validate(asked), {}
    except ValidationError as error:
        return None, field_errors(error)


def _data(values: Values) -> tuple[dict[str, Any], dict[str, str]]:
    """One dataset as such; several, or one with a weight, as rows."""
    first = {"id": values["dataset_id"].strip(), "weight": values["dataset_weight"]}
    rows = [first, *values["datasets"]]
    if not first["id"]:
        return {}, {"dataset_id": "Choose one."}
    sources: list[dict[str, Any]] = []
    errors: dict[str, str] = {}
    for index, row in enumerate(rows):
        place = f"weight-{index}"
        try:
            weight = _weight(row["weight"])
            sources.append(WeightedDataset(id=row["id"], weight=weight).model_dump())
        except ValidationError as error:
            errors[place] = next(iter(field_errors(error).values()))
        except ValueError as error:
            errors[place] = str(error)
    if len({row["id"] for row in rows}) < len(rows):
        errors["datasets"] = "One dataset is here twice: raise its weight instead."
    if len(rows) > MAX_DATASETS:
        errors["datasets"] = f"A run learns from {MAX_DATASETS} datasets at most."
    if len(rows) == 1 and not errors and sources[0]["weight"] == 1:
        return {"dataset_id": first["id"]}, errors
    return {"datasets": sources}, errors


def _weight(text: str) -> float:
    """A weight as typed, also with a comma; none is 1."""
    try:
        return float(text.strip().replace(",", ".") or 1)
    except ValueError as error:
        raise ValueError("Write a number, such as 2 or 0.5.") from error
