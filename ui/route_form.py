"""The form of a route: rows of targets and fallbacks, some of them left empty."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

TARGET_ROWS = 4
FALLBACK_ROWS = 3


def values_of(
    name: str, targets: Sequence[Mapping[str, Any]], fallbacks: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A stored route as the form shows it, with empty rows to fill."""
    rows = [
        {"deployment": target["deployment"], "weight": f"{target['weight']:g}"}
        for target in targets
    ]
    return _padded(name, rows, [fallback["deployment"] for fallback in fallbacks])


def submitted_values(
    *, name: Sequence[str], target: Sequence[str], weight: Sequence[str], fallback: Sequence[str]
) -> dict[str, Any]:
    """The form as it was sent, so that it can be shown again."""
    rows = [
        {"deployment": deployment, "weight": text.strip()}
        for deployment, text in zip_longest(target, weight, fillvalue="")
    ]
    return _padded(name[0].strip() if name else "", rows, list(fallback))


def _padded(name: str, rows: list[dict[str, str]], fallbacks: list[str]) -> dict[str, Any]:
    rows = [row for row in rows if row["deployment"] or row["weight"]]
    fallbacks = [fallback for fallback in fallbacks if fallback]
    empty = {"deployment": "", "weight": ""}
    return {
        "name": name,
        "targets": rows + [empty] * max(1, TARGET_ROWS - len(rows)),
        "fallbacks": fallbacks + [""] * max(1, FALLBACK_ROWS - len(fallbacks)),
    }


def parse(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the form asks for, for the route's own model to check; no weight means 1."""
    return {
        "name": values["name"],
        "targets": [
            {"deployment": row["deployment"], "weight": row["weight"].replace(",", ".") or 1}
            for row in values["targets"]
            if row["deployment"]
        ],
        "fallbacks": [name for name in values["fallbacks"] if name],
    }
