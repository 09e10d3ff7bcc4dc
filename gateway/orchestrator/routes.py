"""Routes: public model names over deployments and upstreams. Stores and checks them; knows no
HTTP."""

from collections.abc import Collection, Sequence
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, delete, select

from gateway.database import Database
from gateway.idempotency import Claim
from gateway.orchestrator.routing import Balance, Sticky
from gateway.paging import DEFAULT_LIMIT, Page, paginate
from gateway.tables import Deployment, Experiment, ReadinessReport, Route, RouteMigration, now
from shared.errors import Conflict, InvalidData, NotFound
from shared.route_labels import from_label

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
MAX_TARGETS = 20


class RoutePlace(BaseModel):
    """A deployment, or an upstream that the operator declared."""

    model_config = ConfigDict(extra="forbid")

    deployment: str | None = Field(None, min_length=1, max_length=63)
    upstream: str | None = Field(None, min_length=1, max_length=63)
    timeout_seconds: float | None = Field(
        None, gt=0, le=3600, description="Without a word for so long, the next one is asked."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_label(cls, value: object) -> object:
        return from_label(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.deployment is None) == (self.upstream is None):
            raise ValueError("give either a deployment or an upstream")
        return self

    @model_serializer(mode="wrap")
    def _without_the_other(self, shown: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in shown(self).items() if value is not None}


class RouteTarget(RoutePlace):
    """A place to ask, and its share of the requests, relative to the other weights."""

    weight: float = Field(1, ge=0, le=1_000_000, allow_inf_nan=False)


class RouteFallback(RoutePlace):
    """Is asked when those before it do not answer; its name alone will do."""


class RouteShadow(RoutePlace):
    """Is asked the same as the readers' targets, in the background; nobody waits for it."""

    share: float = Field(1, gt=0, le=1, allow_inf_nan=False, description="Of the requests.")


class RouteRules(BaseModel):
    """Who answers: one of ``targets`` by weight, then ``fallbacks`` in order."""

    model_config = ConfigDict(extra="forbid")

    targets: list[RouteTarget] = Field(min_length=1, max_length=MAX_TARGETS)
    fallbacks: list[RouteFallback] = Field(default_factory=list, max_length=MAX_TARGETS)
    sticky: Sticky | None = Field(
        None, description="Requests of one user, or one conversation, go to the same target."
    )
    balance: Balance = Field(
        "weights", description="fastest: of two drawn by weight, the one that answers sooner."
    )
    shadow: RouteShadow | None = None

    @field_validator("targets")
    @classmethod
    def _some_weight(cls, targets: list[RouteTarget]) -> list[RouteTarget]:
        if not any(target.weight > 0 for target in targets):
            raise ValueError("at least one target needs a weight above 0")
        return targets

    @model_validator(mode="after")
    def _one_way_to_choose(self) -> Self:
        if self.sticky is not None and self.balance == "fastest":
            raise ValueError("balance: who stays with a target cannot go to the fastest one")
        return self


class RouteSpec(RouteRules):
    name: str = Field(pattern=NAME_PATTERN)


def create_route(
    *,
    database: Database,
    owner: str,
    spec: RouteSpec,
    upstreams: Collection[str] = (),
    claim: Claim | None = None,
) -> Route:
    """``upstreams``: the names of those that are declared."""
    try:
        with database.write() as session:
            check_name_is_free(session, spec.name)
            _check_places(session, owner, spec, upstreams)
            route = Route(owner=owner, name=spec.name)
            _store_rules(route, spec)
            session.add(route)
            session.flush()
            if claim is not None:
                claim.attach(session, route.name)
    except IntegrityError as error:
        raise _taken(spec.name) from error
    return route


def check_name_is_free(session: Session, name: str) -> None:
    """Routes and deployments share one set of names: a model name must mean one thing."""
    if session.get(Route, name) is not None or session.get(Deployment, name) is not None:
        raise _taken(name)


def _taken(name: str) -> Conflict:
    return Conflict(
        f"The name {name!r} belongs to a route or a deployment already.",
        code="name_taken",
        param="name",
    )


def _check_places(
    session: Session, owner: str, rules: RouteRules, upstreams: Collection[str]
) -> None:
    def check(places: Sequence[RoutePlace], field: str) -> None:
        for number, place in enumerate(places):
            check_place(session, owner, place, f"{field}.{number}", upstreams)

    check(rules.targets, "targets")
    check(rules.fallbacks, "fallbacks")
    if rules.shadow is not None:
        check_place(session, owner, rules.shadow, "shadow", upstreams)


def check_place(
    session: Session, owner: str, place: RoutePlace, field: str, upstreams: Collection[str]
) -> None:
    """`InvalidData` that names the ``field`` where the place is neither declared nor owned."""
    if place.upstream is not None:
        if place.upstream not in upstreams:
            raise _undeclared(place.upstream, f"{field}.upstream")
        return
    found = session.get(Deployment, place.deployment)
    if found is None or found.owner != owner:
        param = f"{field}.deployment"
        raise InvalidData(f"{param}: there is no deployment {place.deployment!r}.", param=param)


def _undeclared(name: str, param: str) -> InvalidData:
    return InvalidData(
        f"{param}: there is no upstream {name!r}. GET /api/upstreams lists what is declared.",
        param=param,
    )


def _store_rules(route: Route, rules: RouteRules) -> None:
    route.targets = [target.model_dump() for target in rules.targets]
    route.fallbacks = [fallback.model_dump() for fallback in rules.fallbacks]
    route.sticky, route.balance = rules.sticky, rules.balance
    route.shadow = rules.shadow.model_dump() if rules.shadow else None


def list_routes(
    *, database: Database, owner: str, after: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[Route]:
    with database.read() as session:
        return paginate(
            session=session,
            query=select(Route).where(Route.owner == owner),
            table=Route,
            key=Route.name,
            after=after,
            limit=limit,
        )


def get_route(*, database: Database, owner: str, name: str) -> Route:
    with database.read() as session:
        return owned_route(session, owner, name)


def owned_route(session: Session, owner: str, name: str, *, to_change: bool = False) -> Route:
    """``to_change``: nobody else may until the transaction's end."""
    route = session.get(Route, name, with_for_update=to_change or None)
    if route is None or route.owner != owner:
        raise NotFound(f"There is no route {name[:80]!r}.", param="name")
    return route


def replace_route(
    *,
    database: Database,
    owner: str,
    name: str,
    rules: RouteRules,
    upstreams: Collection[str] = (),
) -> Route:
    with database.write() as session:
        route = owned_route(session, owner, name, to_change=True)
        check_nothing_runs(session, name)
        _check_places(session, owner, rules, upstreams)
        _store_rules(route, rules)
        route.updated_at = now()
        session.add(route)
    return route


def delete_route(*, database: Database, owner: str, name: str) -> None:
    """With all that was tried out on it: another route may get its name."""
    with database.write() as session:
        route = owned_route(session, owner, name, to_change=True)
        check_nothing_runs(session, name)
        for table in (Experiment, RouteMigration, ReadinessReport):
            session.exec(delete(table).where(col(table.route) == name))
        session.delete(route)


def check_nothing_runs(session: Session, name: str) -> None:
    """`Conflict` while the weights of a route are an experiment's, or a migration's."""
    if (what := _what_runs(session, name)) is not None:
        raise Conflict(
            f"Who answers {name!r} is up to its {what} for now. End that first: on the route's "
            f"page, or with DELETE /api/routes/{name}/{what}.",
            code=f"{what}_running",
        )


def what_runs(*, database: Database, name: str) -> str | None:
    """``experiment`` or ``migration`` while the route's weights are up to it."""
    with database.read() as session:
        return _what_runs(session, name)


def on_trial(*, database: Database, names: Collection[str]) -> dict[str, str]:
    """Those of the routes whose weights are up to an ``experiment`` or a ``migration``."""
    with database.read() as session:
        return _on_trial(session, names)


def _what_runs(session: Session, name: str) -> str | None:
    return _on_trial(session, [name]).get(name)


def _on_trial(session: Session, names: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for table, states, what in (
        (Experiment, ("running",), "experiment"),
        # (A migration's step is an experiment too.)
        (RouteMigration, ("running", "paused"), "migration"),
    ):
        query = select(table.route).where(
            col(table.route).in_(names), col(table.status).in_(states)
        )
        found |= dict.fromkeys(session.exec(query), what)
    return found
