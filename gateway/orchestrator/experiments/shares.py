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
    is left with nothing is no target any more, and a control becomes the first fallback then. The
    treatment comes last, so that a growing share takes askers over and gives none back."""
    weights = {label_of(target): float(target["weight"]) for target in targets}
    both = weights.get(control, 0.0) + weights.get(treatment, 0.0)
    if not weights.get(control):
        raise InvalidData(
            f"control: {control!r} is no target of the route that is given requests.",
            param="control",
        )
    weights.pop(treatment, None)
    weights[control] = _rounded(both * (1 - share))
    weights[treatment] = _rounded(both * share)
    found = [
        from_label(label) | {"weight": weight}
        for label, weight in weights.items()
        if weight > 0 or label not in (control, treatment)
    ]
    kept = [dict(fallback) for fallback in fallbacks]
    if weights[control] == 0 and control not in map(label_of, kept):
        kept.insert(0, from_label(control))
    return Places(found, kept)


def _rounded(weight: float) -> float:
    return float(f"{weight:.6g}")
