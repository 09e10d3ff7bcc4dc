"""Whom requests of a route or a deployment go to, in order: read once, drawn for each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlmodel import Session

from gateway.database import Database
from gateway.orchestrator.drills import Fault, active_fault
from gateway.orchestrator.routing import Asker, Weighted, order_targets, sticky_key
from gateway.orchestrator.upstreams import Upstream
from gateway.tables import Deployment, Route, now
from shared.chat import ModelRef
from shared.route_labels import UPSTREAM_PREFIX, from_label, label_of

NOBODY = Asker()


@dataclass(frozen=True)
class Target:
    """A model to ask. ``engine_name`` is its name in the inference service; names with a slash
    before them are loaded at their first request and belong to no deployment. An ``upstream`` is
    asked instead where it is one; ``fault`` is what a drill makes of its answer. After
    ``timeout_seconds`` without a word the next one is asked."""

    label: str
    engine_name: str
    ref: ModelRef | None
    problem: str | None = None
    upstream: Upstream | None = None
    fault: Fault | None = None
    timeout_seconds: float | None = None

    @property
    def continues(self) -> bool:
        """Whether it goes on with an answer that was begun."""
        return self.upstream is None or self.upstream.continues


@dataclass(frozen=True)
class Shadow:
    """Who is asked the same in the background, of which share of the requests."""

    target: Target
    share: float


@dataclass(frozen=True)
class Plan:
    """Whom to ask for ``model``, in order; ``sticky``: what the first one was drawn by; the
    ``shadow`` beside them."""

    model: str
    route: str | None
    targets: tuple[Target, ...]
    sticky: str | None = None
    shadow: Shadow | None = None


@dataclass(frozen=True)
class StoredRoute:
    """A route's rules, by labels."""

    weighted: tuple[Weighted, ...]
    fallbacks: tuple[str, ...]
    sticky: str | None
    drill: dict[str, Any] | None
    balance: str
    shadow: dict[str, Any] | None = None


@dataclass(frozen=True)
class Named:
    """A route or, without rules, a deployment: as it is stored, with all that it may ask."""

    name: str
    targets: Mapping[str, Target]
    route: StoredRoute | None = None

    def plan(
        self, *, draw: float, asker: Asker, cost: Callable[[str], float] | None = None
    ) -> Plan:
        """Whom to ask for one request; ``draw`` is a random number from 0 up to 1, ``cost`` what
        is known of how long targets take."""
        if self.route is None:
            return Plan(self.name, None, tuple(self.targets.values()))
        labels = order_targets(
            targets=self.route.weighted,
            fallbacks=self.route.fallbacks,
            draw=draw,
            key=sticky_key(self.name, self.route.sticky, asker),
            cost=cost if self.route.balance == "fastest" else None,
        )
        first, *others = (self.targets[label] for label in labels)
        # A drill is of what may be drawn; those that would step in are real.
        fault = active_fault(self.route.drill, now())
        targets = (replace(first, fault=fault), *others)
        return Plan(self.name, self.name, targets, self.route.sticky, self._shadow())

    def _shadow(self) -> Shadow | None:
        if self.route is None or self.route.shadow is None:
            return None
        shadow = self.route.shadow
        return Shadow(self.targets[label_of(shadow)], shadow["share"])


def find_named(
    *, database: Database, owner: str, model: str, upstreams: Mapping[str, Upstream]
) -> Named | None:
    """The route or the deployment of this name."""
    with database.read() as session:
        if (route := session.get(Route, model)) is not None and route.owner == owner:
            return _stored(session, route, upstreams)
        if (found := session.get(Deployment, model)) is not None and found.owner == owner:
            return Named(model, {found.name: deployment_target(found)})
    return None


def _stored(session: Session, route: Route, upstreams: Mapping[str, Upstream]) -> Named:
    rules = StoredRoute(
        tuple(Weighted(label_of(target), target["weight"]) for target in route.targets),
        tuple(label_of(fallback) for fallback in route.fallbacks),
        route.sticky,
        route.drill,
        route.balance,
        route.shadow,
    )
    seconds: dict[str, float | None] = {}
    for place in (*route.targets, *route.fallbacks, *filter(None, [route.shadow])):
        seconds[label_of(place)] = seconds.get(label_of(place)) or place.get("timeout_seconds")
    targets = {
        label: replace(
            target_of(session, route.owner, label, upstreams), timeout_seconds=seconds[label]
        )
        for label in seconds
    }
    return Named(route.name, targets, rules)


def find_target(
    *, database: Database, owner: str, label: str, upstreams: Mapping[str, Upstream]
) -> Target:
    """A single target, whatever the routes are; its ``problem`` says where it is gone."""
    with database.read() as session:
        return target_of(session, owner, label, upstreams)


def target_of(
    session: Session, owner: str, label: str, upstreams: Mapping[str, Upstream]
) -> Target:
    if label.startswith(UPSTREAM_PREFIX):
        upstream = upstreams.get(from_label(label)["upstream"])
        problem = None if upstream else f"The upstream {label!r} is not declared any more."
        return Target(label, label, None, problem, upstream)
    deployment = session.get(Deployment, label)
    if deployment is None or deployment.owner != owner:
        return Target(label, label, None, f"The deployment {label!r} does not exist any more.")
    return deployment_target(deployment)


def deployment_target(deployment: Deployment) -> Target:
    problem = None
    if deployment.state == "failed":
        problem = f"The deployment {deployment.name!r} could not be loaded: {deployment.error}"
    return Target(deployment.name, deployment.name, deployment_ref(deployment), problem)


def deployment_ref(deployment: Deployment) -> ModelRef:
    return ModelRef.model_validate(
        {
            "base_model": deployment.base_model,
            "run_id": deployment.run_id,
            "checkpoint": deployment.checkpoint,
            "precision": deployment.precision,
        }
    )
