"""Experiments in the database: started, looked up, ended, and what their end does to the route."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlmodel import Session, col, select

from gateway.database import Database
from gateway.idempotency import Claim
from gateway.orchestrator.experiments.decisions import Decision, Standing, Status
from gateway.orchestrator.experiments.shares import Places, shared_out
from gateway.orchestrator.experiments.spec import ExperimentSpec, Mode, Terms
from gateway.orchestrator.routes import check_nothing_runs, check_place, owned_route
from gateway.tables import Experiment, Route, now
from shared.errors import Conflict, NotFound
from shared.route_labels import label_of


class Made(BaseModel):
    """A decision as it was carried out: what was decided ``why``, and what was done (``did``)."""

    at: datetime
    status: str
    why: str
    did: str


class Look(BaseModel):
    """The figures of one look, for the plot."""

    at: datetime
    units: int
    difference: float | None
    low: float
    high: float


class ExperimentView(BaseModel):
    """An experiment as its owner sees it."""

    id: str
    route: str
    status: Status
    control: str
    treatment: str
    share: float
    mode: Mode
    terms: Terms
    on_success: str
    promote_to: float
    on_failure: str
    standing: Standing | None
    looks: list[Look]
    decisions: list[Made]
    created_at: datetime
    ended_at: datetime | None


def view_of(experiment: Experiment) -> ExperimentView:
    spec = experiment.spec
    return ExperimentView.model_validate(
        experiment.model_dump(exclude={"spec", "before"})
        | {name: spec[name] for name in ("share", "on_success", "promote_to", "on_failure")}
        | {"mode": mode_of(experiment), "terms": terms_of(experiment)}
    )


def terms_of(experiment: Experiment) -> Terms:
    return Terms.model_validate(
        {name: value for name, value in experiment.spec.items() if name in Terms.model_fields}
    )


def mode_of(experiment: Experiment) -> Mode:
    share = experiment.spec["share"]
    return "shadow" if share == 0 else "alone" if share == 1 else "live"


def start_experiment(
    *,
    database: Database,
    owner: str,
    name: str,
    spec: ExperimentSpec,
    upstreams: Collection[str] = (),
    claim: Claim | None = None,
) -> Experiment:
    """Share the route's requests out, and note what is to be found. `Conflict` where something
    runs on the route already."""
    with database.write() as session:
        route = owned_route(session, owner, name, to_change=True)
        check_nothing_runs(session, name)
        check_draws_by_weight(route)
        check_place(session, owner, spec.treatment, "treatment", upstreams)
        experiment = Experiment(
            owner=owner,
            route=name,
            control=label_of(spec.control.model_dump()),
            treatment=label_of(spec.treatment.model_dump()),
            spec=spec.model_dump(mode="json"),
            before=places_of(route),
        )
        share = share_out(session, route, experiment, spec.share)
        _note(experiment, "running", f"The treatment gets {spec.share:.4g} of the requests.", share)
        session.add(experiment)
        session.flush()
        if claim is not None:
            claim.attach(session, experiment.id)
    return experiment


def check_draws_by_weight(route: Route) -> None:
    """Who is asked must be up to chance, and not to how quick the targets are at the moment."""
    if route.balance == "fastest":
        raise Conflict(
            f"{route.name!r} gives its requests to the faster of two targets. Let it draw by "
            "weight alone (balance: weights) while they are compared.",
            code="not_drawn_by_weight",
        )


def places_of(route: Route) -> dict[str, Any]:
    return {"targets": route.targets, "fallbacks": route.fallbacks, "shadow": route.shadow}


def share_out(session: Session, route: Route, experiment: Experiment, share: float) -> str:
    """Give the treatment its share of what both have; tells what was done."""
    found = shared_out(
        experiment.before["targets"],
        experiment.before["fallbacks"],
        control=experiment.control,
        treatment=experiment.treatment,
        share=share,
    )
    store_places(session, route, found)
    return "Weights: " + ", ".join(
        f"{label_of(target)} {target['weight']:g}" for target in found.targets
    )


def restore(session: Session, route: Route, before: dict[str, Any]) -> str:
    store_places(session, route, Places(before["targets"], before["fallbacks"]))
    route.shadow = before["shadow"]
    return "Weights as before."


def store_places(session: Session, route: Route, places: Places) -> None:
    route.targets, route.fallbacks = places.targets, places.fallbacks
    route.updated_at = now()
    session.add(route)


def get_experiment(*, database: Database, owner: str, name: str) -> Experiment:
    """The one that runs on the route, else the last one."""
    with database.read() as session:
        owned_route(session, owner, name)
        return _latest(session, name)


def find_experiment(*, database: Database, owner: str, name: str) -> Experiment | None:
    try:
        return get_experiment(database=database, owner=owner, name=name)
    except NotFound as error:
        if error.code != "experiment_not_found":
            raise
        return None


def experiment_by_id(*, database: Database, owner: str, experiment_id: str) -> Experiment:
    with database.read() as session:
        found = session.get(Experiment, experiment_id)
        if found is None or found.owner != owner:
            raise _none_of(experiment_id)
        return found


def _latest(session: Session, name: str) -> Experiment:
    found = session.exec(
        select(Experiment)
        .where(Experiment.route == name)
        .order_by(col(Experiment.created_at).desc(), col(Experiment.id).desc())
    ).first()
    if found is None:
        raise _none_of(name)
    return found


def _none_of(name: str) -> NotFound:
    return NotFound(
        f"There was no experiment on {name!r} yet.", code="experiment_not_found", param="name"
    )


def stop_experiment(*, database: Database, owner: str, name: str, roll_back: bool) -> Experiment:
    """End it by hand: with the weights as they are, or as they were before."""
    with database.write() as session:
        route = owned_route(session, owner, name, to_change=True)
        experiment = _latest(session, name)
        if experiment.status != "running":
            raise Conflict(f"The experiment on {name!r} has ended.", code="experiment_ended")
        if experiment.migration_id is not None:
            raise Conflict(
                "This experiment is a step of the route's migration: pause or end that one.",
                code="migration_running",
            )
        did = restore(session, route, experiment.before) if roll_back else "Weights stay."
        end(session, experiment, "stopped", "Stopped by hand.", did)
    return experiment


def carry_out(session: Session, experiment: Experiment, decision: Decision) -> None:
    """What a decision does to the route, in the transaction that notes it."""
    route = session.get(Route, experiment.route, with_for_update=True)
    spec, did = experiment.spec, "Weights stay."
    if route is None:
        did = "The route is gone."
    elif decision.status == "succeeded" and spec["on_success"] == "promote":
        did = share_out(session, route, experiment, spec["promote_to"])
    elif decision.status == "rolled_back" or (
        decision.status == "failed" and spec["on_failure"] == "roll_back"
    ):
        did = restore(session, route, experiment.before)
    end(session, experiment, decision.status, decision.why, did)


def end(session: Session, experiment: Experiment, status: Status, why: str, did: str) -> None:
    experiment.status, experiment.ended_at = status, now()
    _note(experiment, status, why, did)
    session.add(experiment)


def _note(experiment: Experiment, status: str, why: str, did: str) -> None:
    made = Made(at=now(), status=status, why=why, did=did)
    experiment.decisions = [*experiment.decisions, made.model_dump(mode="json")]
