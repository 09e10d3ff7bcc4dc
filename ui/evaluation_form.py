"""The form of a new evaluation: what it holds, and the spec that it stands for. Knows no page."""

from collections.abc import Mapping, Sequence
from typing import Any

NAMES = (
    "name",
    "dataset_id",
    "held_out_of",
    "candidates",
    "baseline",
    "task",
    "limit",
    "max_tokens",
    "temperature",
    "judge",
    "rubric",
)
TASKS = [
    ("auto", "By the data"),
    ("plantuml", "PlantUML diagrams"),
    ("correction", "Correction"),
    ("classification", "Classification"),
    ("questions", "Questions"),
    ("general", "Other texts"),
]

Values = dict[str, Any]


def initial_values(dataset_id: str = "", candidates: Sequence[str] = ()) -> Values:
    return {
        **dict.fromkeys(NAMES, ""),
        "dataset_id": dataset_id,
        "candidates": list(candidates),
        "task": "auto",
        "limit": "200",
        "max_tokens": "512",
        "temperature": "0",
        "rubric": "",
    }


def values_of(form: Mapping[str, Any], candidates: Sequence[str]) -> Values:
    """What was sent, every field a text, the candidates a list of them."""
    texts = {name: str(form.get(name, "")).strip() for name in NAMES}
    return texts | {"candidates": list(candidates)}


def spec_of(values: Values) -> dict[str, Any]:
    """The body of `POST /api/evaluations`; empty fields are left out."""
    spec: dict[str, Any] = {
        name: values[name]
        for name in ("name", "task", "limit", "max_tokens", "temperature", "baseline")
        if values[name]
    }
    # A run's held-out rows win over a dataset: choosing one is the last thing that one does.
    if values["held_out_of"]:
        spec["held_out_of"] = values["held_out_of"]
    elif values["dataset_id"]:
        spec["dataset_id"] = values["dataset_id"]
    chosen = list(values["candidates"])
    if values["baseline"] and values["baseline"] not in chosen:
        chosen.insert(0, values["baseline"])
    spec["candidates"] = chosen
    if values["judge"]:
        spec["judge"] = {"model": values["judge"]}
        if values["rubric"]:
            spec["judge"]["rubric"] = values["rubric"]
    return spec
