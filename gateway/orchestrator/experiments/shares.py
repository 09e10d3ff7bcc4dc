"""A route's places with the requests of two targets shared out anew. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidData
from shared.route_labels import from_label, label_of

Place = Mapping[str, Any]


@dataclass(frozen=True)
class Places:
    """Who answers, as a route stores it."""

    targets: list[dict[str, Any]]
    fallbacks: list[dict[str, Any]]


def shared_out(
    targets: Sequence[Place],
    fallbacks: Sequence[Place],
    *,
    control: str,
    treatment: str,
    share: float,
) -> Places:
    """``treatment`` gets ``share`` of what both had together; others keep what they have. Whoever
    is left with nothing is no target any more, and a control becomes the first fallback then."""
    places = {label_of(target): dict(target) for target in targets}
    weights = {label: float(place["weight"]) for label, place in places.items()}
    both = weights.get(control, 0.0) + weights.get(treatment, 0.0)
    if not weights.get(control):
        raise InvalidData(
            f"control: {control!r} is no target of the route that is given requests.",
            param="control",
        )
    kept = [dict(fallback) for fallback in fallbacks]
    # Whatever else is said of a place (its patience) goes with it.
    known = {label_of(fallback): fallback for fallback in kept}
    new = places.pop(treatment, None) or known.get(treatment) or from_label(treatment)
    places[control]["weight"] = _rounded(both * (1 - share))
    places[treatment] = dict(new) | {"weight": _rounded(both * share)}
    found = [
        place
        for label, place in places.items()
        if place["weight"] > 0 or label not in (control, treatment)
    ]
    if places[control]["weight"] == 0 and control not in known:
        kept.insert(0, {name: value for name, value in places[control].items() if name != "weight"})
    return Places(found, kept)


def _rounded(weight: float) -> float:
    return float(f"{weight:.6g}")
