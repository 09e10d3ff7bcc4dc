"""Goes through the stages of all loops, as long as the gateway runs.

No lease is needed: what a stage makes is noted in the loop by the transaction that makes it. Of
two gateways that try at once, the second finds the loop moved on, and makes nothing.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from gateway.deployments import DeploymentSpec, create_deployment, get_deployment
from gateway.evaluations.creating import create_evaluation
from gateway.evaluations.gates import Gate
from gateway.evaluations.required import GateQuestion, answered
from gateway.evaluations.spec import EvaluationSpec
from gateway.evaluations.views import TERMINAL, EvaluationError, get_evaluation
from gateway.loops.spec import LoopSpec, evaluation_spec, run_spec
from gateway.orchestrator.routes import (
    RouteRules,
    RouteSpec,
    create_route,
    get_route,
    replace_route,
)
from gateway.orchestrator.shares import promoted
from gateway.run_views import RunError, get_run
from gateway.runs import create_run
from gateway.services import Services
from gateway.tables import Loop, now
from gateway.validation import refusal
from shared.errors import Conflict, GenPlatError, NotFound, TimedOut, Unavailable
from shared.runs import FineTuneSpec

log = logging.getLogger(__name__)
# These pass: the stage is tried again at the next look.
_PASSING = (Unavailable, TimedOut)
# Where a loop stands: whoever does something changes one of these.
_MOVES = ("status", "stage", "run_id", "evaluation_id", "deployment")


class _MovedOn(Exception):
    """The loop is elsewhere by now, or was cancelled."""


@dataclass(frozen=True)
class _Note:
    """Notes what was made in the transaction that makes it."""

    loop: Loop
    field: str

    def attach(self, session: Session, object_id: str) -> None:
        found = session.get(Loop, self.loop.id, with_for_update=True)
        if found is None or found.status != "running" or getattr(found, self.field) is not None:
            raise _MovedOn
        setattr(found, self.field, object_id)
        session.add(found)


async def run_loops(services: Services) -> None:
    """For ever; the first look finds those that another gateway began."""
    while True:
        services.loop_wanted.clear()
        for loop in await asyncio.to_thread(_running, services):
            await _look(services, loop)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(services.settings.reconcile_seconds):
                await services.loop_wanted.wait()


def _running(services: Services) -> list[Loop]:
    query = select(Loop).where(Loop.status == "running").order_by(col(Loop.created_at))
    with services.database.read() as session:
        return list(session.exec(query).all())


async def _look(services: Services, loop: Loop) -> None:
    """Do what can be done now; its trouble keeps no other loop from being looked at."""
    stage = {
        "training": _train,
        "evaluating": _evaluate,
        "deploying": _deploy,
        "promoting": _promote,
    }[loop.stage]
    try:
        await stage(services, loop, LoopSpec.model_validate(loop.spec))
    except _MovedOn:
        return
    except (*_PASSING, SQLAlchemyError) as error:
        log.info("The loop %s waits: %s", loop.id, type(error).__name__)
    except GenPlatError as error:
        await _fail(services, loop, error.code, error.message)
    except ValidationError as error:
        await _fail(services, loop, "cannot_be_repeated", refusal(error).message)
    except Exception:
        log.exception("The loop %s failed; it is tried again.", loop.id)


async def _train(services: Services, loop: Loop, spec: LoopSpec) -> None:
    seen = partial(get_run, database=services.database, owner=loop.owner)
    if loop.run_id is None:
        earlier = await asyncio.to_thread(seen, run_id=spec.like_run)
        wanted = FineTuneSpec.model_validate(run_spec(earlier.spec, spec.dataset_id))
        note = _Note(loop, "run_id")
        await create_run(services=services, owner=loop.owner, spec=wanted, claim=note)
        return
    run = await asyncio.to_thread(seen, run_id=loop.run_id)
    if run.status == "succeeded":
        await _enter(services, loop, "evaluating")
    elif run.is_terminal:
        said = f"The run {run.id} is {run.status}.{_why(run.error)}"
        await _fail(services, loop, "run_failed", said)


def _why(error: RunError | EvaluationError | None) -> str:
    return f" {error.message}" if error is not None else ""


async def _evaluate(services: Services, loop: Loop, spec: LoopSpec) -> None:
    seen = partial(get_evaluation, database=services.database, owner=loop.owner)
    if loop.evaluation_id is None:
        earlier = await asyncio.to_thread(seen, evaluation_id=spec.like_evaluation)
        wanted = evaluation_spec(
            earlier.spec, baseline=spec.baseline or spec.like_run, run_id=str(loop.run_id)
        )
        await create_evaluation(
            services=services,
            owner=loop.owner,
            spec=EvaluationSpec.model_validate(wanted),
            claim=_Note(loop, "evaluation_id"),
        )
        return
    found = await asyncio.to_thread(seen, evaluation_id=loop.evaluation_id)
    if found.status not in TERMINAL:
        return
    if found.status != "succeeded":
        said = f"The evaluation {found.id} is {found.status}.{_why(found.error)}"
        await _fail(services, loop, "evaluation_failed", said)
        return
    verdict = answered(found, GateQuestion(rules=spec.rules, candidate=1))
    verdicts = [one.model_dump() for one in verdict.verdicts]
    if verdict.holds:
        await _enter(services, loop, "deploying", verdicts=verdicts)
        return
    said = " ".join(one.sentence for one in verdict.verdicts if not one.holds)
    said = f"The gate is closed. {said}"
    await _fail(services, loop, "gate_closed", said, verdicts=verdicts)


async def _deploy(services: Services, loop: Loop, spec: LoopSpec) -> None:
    if loop.deployment is None:
        wanted = DeploymentSpec(
            name=spec.deployment,
            model=str(loop.run_id),
            require=Gate(evaluation=str(loop.evaluation_id), rules=spec.rules),
        )
        note = _Note(loop, "deployment")
        await create_deployment(services=services, owner=loop.owner, spec=wanted, claim=note)
        return
    found = await asyncio.to_thread(
        get_deployment, database=services.database, owner=loop.owner, name=loop.deployment
    )
    if found.state == "ready":
        await _enter(services, loop, "promoting")
    elif found.state == "failed":
        said = f"{found.name} cannot be served: {found.error}"
        await _fail(services, loop, "deployment_failed", said)


async def _promote(services: Services, loop: Loop, spec: LoopSpec) -> None:
    """(Done twice it comes to the same.)"""
    if spec.route is not None:
        await asyncio.to_thread(_route, services, loop, spec, spec.route)
    await _end(services, loop, "succeeded", stage="done")


def _route(services: Services, loop: Loop, spec: LoopSpec, name: str) -> None:
    database, owner = services.database, loop.owner
    upstreams = services.upstreams.upstreams
    targets = [{"deployment": spec.deployment, "weight": 100}]
    made = RouteSpec.model_validate({"name": name, "targets": targets})
    try:
        create_route(database=database, owner=owner, spec=made, upstreams=upstreams)
    except Conflict as taken:
        try:
            route = get_route(database=database, owner=owner, name=name)
        except NotFound:
            # Somebody else's, or a deployment's.
            raise taken from None
        promotion = promoted(route.model_dump(), spec.deployment, spec.weight)
        rules = RouteRules.model_validate(promotion)
        replace_route(database=database, owner=owner, name=name, rules=rules, upstreams=upstreams)


async def _enter(services: Services, loop: Loop, stage: str, **found: Any) -> None:
    await asyncio.to_thread(_write, services, loop, {"stage": stage, **found})
    services.loop_wanted.set()


async def _fail(services: Services, loop: Loop, code: str, message: str, **found: Any) -> None:
    with contextlib.suppress(_MovedOn):
        await _end(services, loop, "failed", error_code=code, error_message=message, **found)


async def _end(services: Services, loop: Loop, status: str, **found: Any) -> None:
    ended = {"status": status, "finished_at": now(), **found}
    await asyncio.to_thread(_write, services, loop, ended)


def _write(services: Services, loop: Loop, values: dict[str, Any]) -> None:
    """`_MovedOn` where the loop is not any more what it was when it was looked at: what failed
    here because another gateway has done it is no failure."""
    with services.database.write() as session:
        found = session.get(Loop, loop.id, with_for_update=True)
        if found is None or any(getattr(found, name) != getattr(loop, name) for name in _MOVES):
            raise _MovedOn
        for name, value in values.items():
            setattr(found, name, value)
        session.add(found)
