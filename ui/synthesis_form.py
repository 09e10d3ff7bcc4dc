"""What the form of a synthesis holds, and what it says. Knows no HTTP and no database."""

from collections.abc import Mapping
from typing import Any

Values = dict[str, str]

# The fields of the form, and with what they begin.
EMPTY: Values = {
    "model": "",
    "name": "",
    "dataset_id": "",
    "evaluation_id": "",
    "candidate": "",
    "metric": "",
    "below": "0.5",
    "count": "50",
    "instructions": "",
    "axes": "",
    "leakage": "",
    "judge": "",
    "min_score": "4",
    "temperature": "0.9",
    "per_request": "4",
    "near_duplicate": "0.6",
    "seed": "42",
}
NAMES = tuple(EMPTY)


def parse(values: Mapping[str, str]) -> dict[str, Any]:
    """The body of POST /api/syntheses; what was left empty is left out."""
    spec: dict[str, Any] = {
        name: text.strip() for name, text in values.items() if name in EMPTY and text.strip()
    }
    if axes := [line.strip() for line in values.get("axes", "").splitlines() if line.strip()]:
        spec["axes"] = axes
    if leakage := values.get("leakage", "").split():
        spec["leakage"] = leakage
    if not spec.get("evaluation_id"):
        for name in ("candidate", "metric", "below"):
            spec.pop(name, None)
    if not spec.get("judge"):
        spec.pop("min_score", None)
    return spec
