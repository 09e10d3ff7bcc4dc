"""A route's experiment and its migration: where they stand, and the forms that start them."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from gateway import deployments
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.orchestrator import routes
from gateway.orchestrator.experiments import migration, planning, store
from gateway.orchestrator.experiments.migration_shapes import MigrationSpec, MigrationView
from gateway.orchestrator.experiments.spec import ExperimentSpec
from gateway.orchestrator.shadow_comparison import shadow_comparisons
from gateway.pages.html import UNPROCESSABLE, fragment, no_problems, page, problems, see_other
from gateway.services import Services
from shared.errors import GenPlatError
from shared.route_labels import UPSTREAM_PREFIX, label_of
from ui import trials

router = APIRouter(prefix="/routes/{name}", include_in_schema=False)

EXPERIMENT_FIELDS = (
    "control", "treatment", "share", "outcome", "judge", "goal", "margin", "min_effect",
    "guardrails", "max_days", "on_failure",
)  # fmt: skip
MIGRATION_FIELDS = (
    "from", "to", "outcome", "judge", "margin", "steps", "on_setback", "guardrails", "max_days",
)  # fmt: skip
WRONG = (GenPlatError, ValidationError)


@router.get("/experiment")
def show_experiment(
    name: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    """The whole page, or what changes of it while it is watched."""
    if "hx-request" in request.headers:
        return fragment(
            "routes/experiment.html", "trial", name=name, **_experiment(services, owner, name)
        )
    return _experiment_page(services, owner, name, trials.EXPERIMENT_FORM)


@router.post("/experiment")
async def start_experiment(
    name: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    values = await _submitted(request, trials.EXPERIMENT_FORM)

    def start() -> None:
        spec = ExperimentSpec.model_validate(trials.parse_experiment(values))
        store.start_experiment(
            database=services.database,
            owner=owner,
            name=name,
            spec=spec,
            upstreams=services.upstreams.upstreams,
        )

    try:
        await run_in_threadpool(start)
    except WRONG as error:
        return await run_in_threadpool(_experiment_page, services, owner, name, values, error)
    return see_other(f"/routes/{name}/experiment")


@router.post("/experiment/forecast")
async def forecast_experiment(
    name: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    """The form again, with how long it would take."""
    values = await _submitted(request, trials.EXPERIMENT_FORM)

    def forecast() -> list[str]:
        spec = ExperimentSpec.model_validate(trials.parse_experiment(values))
        found = planning.forecast_experiment(
            database=services.database, owner=owner, name=name, spec=spec
        )
        return trials.forecast_texts([found])

    try:
        texts = await run_in_threadpool(forecast)
    except WRONG as error:
        return await run_in_threadpool(_experiment_page, services, owner, name, values, error)
    return await run_in_threadpool(_experiment_page, services, owner, name, values, forecast=texts)


@router.post("/experiment/stop")
def stop_experiment(
    name: str,
    services: ServicesDep,
    owner: PageOwnerDep,
    roll_back: Annotated[bool, Form()] = False,
) -> Response:
    store.stop_experiment(database=services.database, owner=owner, name=name, roll_back=roll_back)
    return see_other(f"/routes/{name}/experiment")


@router.get("/shadow")
def show_shadow(name: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    found = shadow_comparisons(database=services.database, owner=owner, name=name)
    return page("routes/shadow.html", name=name, comparisons=found)


@router.get("/migration")
def show_migration(
    name: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    """The whole page, or what changes of it while it is watched."""
    if "hx-request" in request.headers:
        return fragment(
            "routes/migration.html", "walk", name=name, **_migration(services, owner, name)
        )
    return _migration_page(services, owner, name, trials.MIGRATION_FORM)


@router.post("/migration")
async def start_migration(
    name: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    values = await _submitted(request, trials.MIGRATION_FORM)

    def start() -> None:
        spec = MigrationSpec.model_validate(trials.parse_migration(values))
        migration.start_migration(
            database=services.database,
            owner=owner,
            name=name,
            spec=spec,
            upstreams=services.upstreams.upstreams,
        )

    try:
        await run_in_threadpool(start)
    except WRONG as error:
        return await run_in_threadpool(_migration_page, services, owner, name, values, error)
    return see_other(f"/routes/{name}/migration")


@router.post("/migration/forecast")
async def forecast_migration(
    name: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    """The form again, with how long each step would take."""
    values = await _submitted(request, trials.MIGRATION_FORM)

    def forecast() -> list[str]:
        spec = MigrationSpec.model_validate(trials.parse_migration(values))
        found = planning.forecast_migration(
            database=services.database, owner=owner, name=name, spec=spec
        )
        return trials.forecast_texts(found)

    try:
        texts = await run_in_threadpool(forecast)
    except WRONG as error:
        return await run_in_threadpool(_migration_page, services, owner, name, values, error)
    return await run_in_threadpool(_migration_page, services, owner, name, values, forecast=texts)


@router.post("/migration/pause")
def pause_migration(name: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    migration.pause_migration(database=services.database, owner=owner, name=name)
    return see_other(f"/routes/{name}/migration")


@router.post("/migration/resume")
def resume_migration(name: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    migration.resume_migration(database=services.database, owner=owner, name=name)
    return see_other(f"/routes/{name}/migration")


@router.post("/migration/stop")
def stop_migration(name: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    migration.stop_migration(database=services.database, owner=owner, name=name)
    return see_other(f"/routes/{name}/migration")


async def _submitted(request: Request, fields: dict[str, str]) -> dict[str, str]:
    form = await request.form()
    return {
        field: value.strip() if isinstance(value := form.get(field, ""), str) else ""
        for field in fields
    }


def _experiment(services: Services, owner: str, name: str) -> dict[str, Any]:
    found = store.find_experiment(database=services.database, owner=owner, name=name)
    shown = store.view_of(found) if found else None
    return {
        "experiment": shown,
        "figures": trials.figures(shown) if shown else None,
        "in_migration": found is not None and found.migration_id is not None,
        "outcomes": trials.IN_WORDS,
    }


def _migration(services: Services, owner: str, name: str) -> dict[str, Any]:
    found = migration.find_migration(database=services.database, owner=owner, name=name)
    return {
        "migration": found,
        "shown": _shown_steps(found) if found else [],
        "states": trials.STATES,
        "outcomes": trials.IN_WORDS,
    }


def _shown_steps(found: MigrationView) -> list[tuple[Any, Any]]:
    """Those that have begun, the one where it stands first."""
    begun = [step for step in found.steps if step.experiment is not None]
    return [(step, trials.figures(step.experiment)) for step in reversed(begun)]


def _experiment_page(
    services: Services,
    owner: str,
    name: str,
    values: dict[str, str],
    error: GenPlatError | ValidationError | None = None,
    forecast: Sequence[str] = (),
) -> Response:
    return page(
        "routes/experiment.html",
        status=UNPROCESSABLE if error else 200,
        name=name,
        goals=trials.GOALS,
        forecast=forecast,
        **_experiment(services, owner, name),
        **_form(services, owner, name, values, error, EXPERIMENT_FIELDS),
    )


def _migration_page(
    services: Services,
    owner: str,
    name: str,
    values: dict[str, str],
    error: GenPlatError | ValidationError | None = None,
    forecast: Sequence[str] = (),
) -> Response:
    return page(
        "routes/migration.html",
        status=UNPROCESSABLE if error else 200,
        name=name,
        setbacks=trials.SETBACKS,
        forecast=forecast,
        **_migration(services, owner, name),
        **_form(services, owner, name, values, error, MIGRATION_FIELDS),
    )


def _form(
    services: Services,
    owner: str,
    name: str,
    values: dict[str, str],
    error: GenPlatError | ValidationError | None,
    fields: tuple[str, ...],
) -> dict[str, Any]:
    """What both forms need: who may be compared, and what was wrong."""
    if isinstance(error, GenPlatError) and error.status == 404:
        raise error
    route = routes.get_route(database=services.database, owner=owner, name=name)
    serving = deployments.list_deployments(database=services.database, owner=owner, limit=100)
    upstreams = [f"{UPSTREAM_PREFIX}{upstream}" for upstream in services.upstreams.upstreams]
    return {
        "values": values,
        "sources": [label_of(target) for target in route.targets if target["weight"] > 0],
        "targets": [*(found.name for found in serving.data), *upstreams],
        "outcome_choices": trials.OUTCOMES,
        **(problems(error, fields) if error else no_problems()),
    }
