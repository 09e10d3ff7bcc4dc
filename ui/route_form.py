"""The form of a route: rows of targets and fallbacks, some of them left empty."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from shared.route_labels import from_label, label_of

TARGET_ROWS = 4
FALLBACK_ROWS = 3


def values_of(
    name: str,
    targets: Sequence[Mapping[str, Any]],
    fallbacks: Sequence[Mapping[str, Any]],
    sticky: str | None = None,
    shadow: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A stored route as the form shows it, with empty rows to fill."""
    rows = [{"label": label_of(target), "weight": f"{target['weight']:g}"} for target in targets]
    values = _padded(name, rows, [label_of(fallback) for fallback in fallbacks], sticky or "")
    if shadow is None:
        return values
    return values | {"shadow": label_of(shadow), "shadow_share": f"{100 * shadow['share']:g}"}


def submitted_values(
    *,
    name: Sequence[str],
    target: Sequence[str],
    weight: Sequence[str],
    fallback: Sequence[str],
    sticky: Sequence[str] = (),
    shadow: Sequence[str] = (),
    shadow_share: Sequence[str] = (),
) -> dict[str, Any]:
    """The form as it was sent, so that it can be shown again."""
    rows = [
        {"label": label, "weight": text.strip()}
        for label, text in zip_longest(target, weight, fillvalue="")
    ]
    first, which, asked, share = (
        values[0].strip() if values else "" for values in (name, sticky, shadow, shadow_share)
    )
    values = _padded(first, rows, list(fallback), which)
    return values | {"shadow": asked, "shadow_share": share}


def _padded(
    name: str, rows: list[dict[str, str]], fallbacks: list[str], sticky: str
) -> dict[str, Any]:
    rows = [row for row in rows if row["label"] or row["weight"]]
    fallbacks = [fallback for fallback in fallbacks if fallback]
    empty = {"label": "", "weight": ""}
    return {
        "name": name,
        "sticky": sticky,
        "shadow": "",
        "shadow_share": "",
        "targets": rows + [empty] * max(1, TARGET_ROWS - len(rows)),
        "fallbacks": fallbacks + [""] * max(1, FALLBACK_ROWS - len(fallbacks)),
    }


def parse(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the form asks for, for the route's own model to check; no weight means 1."""
    return {
        "name": values["name"],
        "targets": [
            from_label(row["label"]) | {"weight": row["weight"].replace(",", ".") or 1}
            for row in values["targets"]
            if row["label"]
        ],
        "fallbacks": [name for name in values["fallbacks"] if name],
        "sticky": values["sticky"] or None,
        "shadow": _shadow(values),
    }


def _shadow(values: Mapping[str, Any]) -> dict[str, Any] | None:
    if not values["shadow"]:
        return None
    percent = values["shadow_share"].removesuffix("%").replace(",", ".") or "100"
    try:
        share: float | str = float(percent) / 100
    except ValueError:
        # The route's own model says what is wrong.
        share = percent
    return from_label(values["shadow"]) | {"share": share}
