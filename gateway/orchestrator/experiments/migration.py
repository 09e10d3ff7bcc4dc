"""A route's walk from one target to another: steps that must each hold before the next is taken.

A step is an experiment of its own that proves "not worse by more than the margin". Step 0 asks the
new target in the background only (shadow). The last step gives it everything, with the old one as
the first fallback; with nobody beside it, it is compared with what the old one did in the step
before. Where a step does not hold, the walk goes a step back, or back to its start.
"""

from collections.abc import Collection
from typing import Any

from sqlmodel import Session, col, select

from gateway.database import Database
from gateway.idempotency import Claim
from gateway.orchestrator.experiments.arms import readable_in_shadow
from gateway.orchestrator.experiments.migration_shapes import (
    MigrationSpec,
    MigrationStatus,
    MigrationView,
    StepView,
)
from gateway.orchestrator.experiments.spec import Terms
from gateway.orchestrator.experiments.store import (
    Made,
    check_draws_by_weight,
    end,
    places_of,
    restore,
    share_out,
    view_of,
)
from gateway.orchestrator.routes import check_nothing_runs, check_place, owned_route
from gateway.tables import Experiment, Route, RouteMigration, now
from shared.errors import Conflict, InvalidData, NotFound
from shared.route_labels import from_label, label_of

ACTIVE = ("running", "paused")


def start_migration(
    *,
    database: Database,
    owner: str,
    name: str,
    spec: MigrationSpec,
    upstreams: Collection[str] = (),
    claim: Claim | None = None,
) -> RouteMigration:
    with database.write() as session:
        route = owned_route(session, owner, name, to_change=True)
        check_nothing_runs(session, name)
        check_draws_by_weight(route)
        check_place(session, owner, spec.target, "to", upstreams)
        source = label_of(spec.source.model_dump())
        if source not in {label_of(target) for target in route.targets if target["weight"] > 0}:
            raise InvalidData(
                f"from: {source!r} is no target of the route that is given requests.", param="from"
            )
        migration = RouteMigration(
            owner=owner,
            route=name,
            spec=spec.model_dump(mode="json", by_alias=True),
            before=places_of(route),
        )
        session.add(migration)
        _enter(session, route, migration, 0, "The migration begins.")
        session.flush()
        if claim is not None:
            claim.attach(session, migration.id)
    return migration


def spec_of(migration: RouteMigration) -> MigrationSpec:
    return MigrationSpec.model_validate(migration.spec)


def _enter(session: Session, route: Route, migration: RouteMigration, step: int, why: str) -> None:
    """Share the requests out as the step says, and begin its experiment."""
    spec = spec_of(migration)
    share = spec.steps[step]
    migration.step = step
    experiment = _experiment_of(migration, spec, share)
    restore(session, route, migration.before)
    if share == 0:
        route.shadow = from_label(experiment.treatment) | {"share": spec.shadow_share}
        did = f"{experiment.treatment} is asked {spec.shadow_share:.0%} of it in the background."
    else:
        did = share_out(session, route, experiment, share)
    note(migration, "running", why, did)
    session.add(experiment)
    session.add(migration)


def _experiment_of(migration: RouteMigration, spec: MigrationSpec, share: float) -> Experiment:
    terms = {name: getattr(spec, name) for name in Terms.model_fields}
    if share == 0:
        terms["outcome"] = readable_in_shadow(spec.outcome)
    dumped = Terms.model_validate(terms).model_dump(mode="json")
    return Experiment(
        owner=migration.owner,
        route=migration.route,
        control=label_of(spec.source.model_dump()),
        treatment=label_of(spec.target.model_dump()),
        # The walk itself promotes and rolls back.
        spec=dumped | {"share": share, "on_success": "none", "promote_to": 1, "on_failure": "none"},
        before=migration.before,
        migration_id=migration.id,
        step=migration.step,
    )


def step_ended(session: Session, experiment: Experiment) -> None:
    """Go on, or back, in the transaction in which the step's experiment ended."""
    if experiment.migration_id is None:
        return
    migration = session.get(RouteMigration, experiment.migration_id, with_for_update=True)
    route = session.get(Route, experiment.route, with_for_update=True)
    if migration is None or route is None or migration.status != "running":
        return
    why = experiment.decisions[-1]["why"]
    is_last = migration.step == len(spec_of(migration).steps) - 1
    if experiment.status == "succeeded" and is_last:
        _end(migration, "succeeded", f"All steps held. {why}", "Weights stay.")
        session.add(migration)
        return
    if experiment.status == "succeeded":
        _enter(session, route, migration, migration.step + 1, f"The step held. {why}")
        return
    migration.setbacks += 1
    spec = spec_of(migration)
    if spec.on_setback == "start" or migration.step == 0 or migration.setbacks >= spec.max_setbacks:
        _end(migration, "failed", why, restore(session, route, migration.before))
        session.add(migration)
        return
    _enter(session, route, migration, migration.step - 1, f"A step back. {why}")


def step_before(session: Session, experiment: Experiment) -> Experiment | None:
    """That of the step before, as it held last."""
    if not experiment.step:
        return None
    return session.exec(
        select(Experiment)
        .where(
            Experiment.migration_id == experiment.migration_id,
            Experiment.step == experiment.step - 1,
            Experiment.status == "succeeded",
        )
        .order_by(col(Experiment.created_at).desc())
    ).first()


def get_migration(*, database: Database, owner: str, name: str) -> MigrationView:
    """The one that is under way, else the last one."""
    with database.read() as session:
        owned_route(session, owner, name)
        return _view(session, _latest(session, name))


def migration_by_id(*, database: Database, owner: str, migration_id: str) -> MigrationView:
    with database.read() as session:
        found = session.get(RouteMigration, migration_id)
        if found is None or found.owner != owner:
            raise _none_of(migration_id)
        return _view(session, found)


def find_migration(*, database: Database, owner: str, name: str) -> MigrationView | None:
    try:
        return get_migration(database=database, owner=owner, name=name)
    except NotFound as error:
        if error.code != "migration_not_found":
            raise
        return None


def _latest(session: Session, name: str) -> RouteMigration:
    found = session.exec(
        select(RouteMigration)
        .where(RouteMigration.route == name)
        .order_by(col(RouteMigration.created_at).desc(), col(RouteMigration.id).desc())
    ).first()
    if found is None:
        raise _none_of(name)
    return found


def _none_of(name: str) -> NotFound:
    return NotFound(
        f"There was no migration of {name!r} yet.", code="migration_not_found", param="name"
    )


def _view(session: Session, migration: RouteMigration) -> MigrationView:
    spec = spec_of(migration)
    latest: dict[int, Experiment] = {}
    for experiment in session.exec(
        select(Experiment)
        .where(Experiment.migration_id == migration.id)
        .order_by(col(Experiment.created_at))
    ):
        latest[experiment.step or 0] = experiment
    return MigrationView(
        **migration.model_dump(exclude={"spec", "before", "owner"}),
        source=label_of(spec.source.model_dump()),
        target=label_of(spec.target.model_dump()),
        spec=spec,
        steps=[
            StepView(
                share=share,
                state=_state(migration, number, latest.get(number)),
                experiment=view_of(latest[number]) if number in latest else None,
            )
            for number, share in enumerate(spec.steps)
        ],
    )


def _state(migration: RouteMigration, number: int, experiment: Experiment | None) -> Any:
    if migration.status == "succeeded" or number < migration.step:
        return "held"
    if number == migration.step and migration.status == "running":
        return "runs"
    return "waits" if experiment is None else "set_back"


def pause_migration(*, database: Database, owner: str, name: str) -> MigrationView:
    """The shares stay; nothing is counted until it goes on."""
    with database.write() as session:
        _route, migration = _to_change(session, owner, name, ("running",))
        _stop_step(session, migration)
        migration.status = "paused"
        note(migration, "paused", "Paused by hand.", "Weights stay.")
        session.add(migration)
        session.flush()
        return _view(session, migration)


def resume_migration(*, database: Database, owner: str, name: str) -> MigrationView:
    """The step begins anew."""
    with database.write() as session:
        route, migration = _to_change(session, owner, name, ("paused",))
        migration.status = "running"
        _enter(session, route, migration, migration.step, "Resumed by hand.")
        session.flush()
        return _view(session, migration)


def stop_migration(*, database: Database, owner: str, name: str) -> MigrationView:
    """Back to the start, and no further."""
    with database.write() as session:
        route, migration = _to_change(session, owner, name, ACTIVE)
        _stop_step(session, migration)
        did = restore(session, route, migration.before)
        _end(migration, "stopped", "Rolled back by hand.", did)
        session.add(migration)
        session.flush()
        return _view(session, migration)


def _to_change(
    session: Session, owner: str, name: str, states: Collection[str]
) -> tuple[Route, RouteMigration]:
    route = owned_route(session, owner, name, to_change=True)
    migration = _latest(session, name)
    if migration.status not in states:
        raise Conflict(
            f"The migration of {name!r} is {migration.status}.", code="migration_not_running"
        )
    return route, migration


def _stop_step(session: Session, migration: RouteMigration) -> None:
    for experiment in session.exec(
        select(Experiment).where(
            Experiment.migration_id == migration.id, Experiment.status == "running"
        )
    ):
        end(session, experiment, "stopped", "The migration was halted.", "Weights stay.")


def _end(migration: RouteMigration, status: MigrationStatus, why: str, did: str) -> None:
    migration.status, migration.ended_at = status, now()
    note(migration, status, why, did)


def note(migration: RouteMigration, status: str, why: str, did: str) -> None:
    made = Made(at=now(), status=status, why=why, did=did)
    migration.decisions = [*migration.decisions, made.model_dump(mode="json")]
