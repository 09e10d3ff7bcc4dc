"""How a route's requests are shared when one deployment is to get so many of them."""

from typing import Any

from gateway.orchestrator.routes import MAX_TARGETS, RouteRules


def weighted(
    targets: list[dict[str, Any]], deployment: str, percent: float
) -> list[dict[str, Any]]:
    """The targets with so many percent for the deployment; the others share what is left as they
    did before. Where it gets all, they keep their places with no weight, to be gone back to, as
    long as there is room for the newest of them."""
    others = [one for one in targets if one.get("deployment") != deployment]
    own = next((one for one in targets if one.get("deployment") == deployment), {})
    total = sum(one["weight"] for one in others)
    if not total:
        percent = 100
    shares = [
        one | {"weight": round((100 - percent) * one["weight"] / total, 6) if total else 0}
        for one in others
    ]
    while len(shares) >= MAX_TARGETS and (idle := [one for one in shares if not one["weight"]]):
        shares.remove(idle[0])
    return [*shares, own | {"deployment": deployment, "weight": percent}]


def promoted(route: dict[str, Any], deployment: str, percent: float) -> dict[str, Any]:
    """A route's rules as they are, but for the deployment's share."""
    rules = {name: route[name] for name in RouteRules.model_fields if name in route}
    return rules | {"targets": weighted(route["targets"], deployment, percent)}
