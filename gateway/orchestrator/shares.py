"""How a route's requests are shared when one deployment is to get so many of them. Pure."""

from typing import Any


def weighted(
    targets: list[dict[str, Any]], deployment: str, percent: float
) -> list[dict[str, Any]]:
    """The targets with so many percent for the deployment; the others share what is left as they
    did before. Where it gets all, they keep their places with no weight, to be gone back to."""
    others = [one for one in targets if one.get("deployment") != deployment]
    total = sum(one["weight"] for one in others)
    if not total:
        percent = 100
    shares = [
        one | {"weight": round((100 - percent) * one["weight"] / total, 6) if total else 0}
        for one in others
    ]
    return [*shares, {"deployment": deployment, "weight": percent}]
