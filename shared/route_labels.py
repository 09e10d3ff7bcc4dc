"""One name for whatever a route may ask: a deployment's own, or ``upstream/`` and an upstream's."""

from collections.abc import Mapping
from typing import Any

# No deployment has a slash in its name.
UPSTREAM_PREFIX = "upstream/"


def from_label(label: str) -> dict[str, str]:
    """What a label names, as a route says it: ``{"deployment": …}`` or ``{"upstream": …}``."""
    if label.startswith(UPSTREAM_PREFIX):
        return {"upstream": label.removeprefix(UPSTREAM_PREFIX)}
    return {"deployment": label}


def label_of(place: Mapping[str, Any]) -> str:
    """The label of a place, as a route says it."""
    upstream = place.get("upstream")
    return f"{UPSTREAM_PREFIX}{upstream}" if upstream else str(place["deployment"])
