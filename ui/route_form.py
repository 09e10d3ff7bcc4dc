"""The form of a route: rows of targets and fallbacks, some of them left empty."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from shared.route_labels import from_label, label_of

TARGET_ROWS = 4
FALLBACK_ROWS = 3


# How a target is chosen, where it is not by weight alone; the others are the route's `sticky`.
FASTEST = "fastest"


def values_of(
    name: str,
    targets: Sequence[Mapping[str, Any]],
    fallbacks: Sequence[Mapping[str, Any]],
    sticky: str | None = None,
    balance: str = "weights",
    shadow: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A stored route as the form shows it, with empty rows to fill."""
    values = _padded(
        name,
        [_row(target) | {"weight": f"{target['weight']:g}"} for target in targets],
        [_row(fallback) for fallback in fallbacks],
        FASTEST if balance == FASTEST else sticky or "",
    )
    if shadow is None:
        return values
    return values | {"shadow": label_of(shadow), "shadow_share": f"{100 * shadow['share']:g}"}


def _row(place: Mapping[str, Any]) -> dict[str, str]:
    seconds = place.get("timeout_seconds")
    return {"label": label_of(place), "seconds": "" if seconds is None else f"{seconds:g}"}


def submitted_values(
    *,
    name: Sequence[str],
    target: Sequence[str],
    weight: Sequence[str],
    seconds: Sequence[str] = (),
    fallback: Sequence[str],
    fallback_seconds: Sequence[str] = (),
    choice: Sequence[str] = (),
    shadow: Sequence[str] = (),
    shadow_share: Sequence[str] = (),
) -> dict[str, Any]:
    """The form as it was sent, so that it can be shown again."""
    rows = [
        {"label": label, "weight": share.strip(), "seconds": patience.strip()}
        for label, share, patience in zip_longest(target, weight, seconds, fillvalue="")
    ]
    fallbacks = [
        {"label": label, "seconds": patience.strip()}
        for label, patience in zip_longest(fallback, fallback_seconds, fillvalue="")
    ]
    first, which, asked, share = (
        values[0].strip() if values else "" for values in (name, choice, shadow, shadow_share)
    )
    values = _padded(first, rows, fallbacks, which)
    return values | {"shadow": asked, "shadow_share": share}


def _padded(
    name: str, rows: list[dict[str, str]], fallbacks: list[dict[str, str]], choice: str
) -> dict[str, Any]:
    rows = [row for row in rows if any(row.values())]
    fallbacks = [row for row in fallbacks if any(row.values())]
    empty = {"label": "", "weight": "", "seconds": ""}
    return {
        "name": name,
        "choice": choice,
        "shadow": "",
        "shadow_share": "",
        "targets": rows + [empty] * max(1, TARGET_ROWS - len(rows)),
        "fallbacks": fallbacks + [empty] * max(1, FALLBACK_ROWS - len(fallbacks)),
    }


def parse(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the form asks for, for the route's own model to check; no weight means 1."""
    fastest = values["choice"] == FASTEST
    return {
        "name": values["name"],
        "targets": [
            _place(row) | {"weight": row["weight"].replace(",", ".") or 1}
            for row in values["targets"]
            if row["label"]
        ],
        "fallbacks": [_place(row) for row in values["fallbacks"] if row["label"]],
        "sticky": None if fastest else values["choice"] or None,
        "balance": FASTEST if fastest else "weights",
        "shadow": _shadow(values),
    }


def _place(row: Mapping[str, str]) -> dict[str, Any]:
    seconds = row["seconds"].replace(",", ".")
    return from_label(row["label"]) | ({"timeout_seconds": seconds} if seconds else {})


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
