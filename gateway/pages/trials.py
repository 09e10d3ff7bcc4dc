"""A route's experiment and its migration: where they stand, and the forms that start them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from gateway import deployments
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.orchestrator import routes
from gateway.orchestrator.experiments import migration, planning, store
from gateway.orchestrator.experiments.checks import check_can_be_seen
from gateway.orchestrator.experiments.migration_shapes import MigrationSpec, MigrationView
from gateway.orchestrator.experiments.planning import Forecast
from gateway.orchestrator.experiments.spec import ExperimentSpec
from gateway.orchestrator.shadow_comparison import shadow_comparisons
from gateway.pages.html import UNPROCESSABLE, fragment, no_problems, page, problems, see_other
from gateway.services import Services
from shared.errors import GenPlatError
from shared.route_labels import UPSTREAM_PREFIX, label_of
from ui import trials

router = APIRouter(prefix="/routes/{name}", include_in_schema=False)

Values = dict[str, str]


@dataclass(frozen=True)
class Place:
    """Which route is looked at, and by whom."""

    name: str
    request: Request
    services: Services
    owner: str

    @property
    def whose(self) -> dict[str, Any]:
        """What the functions behind these pages are told."""
        return {"database": self.services.database, "owner": self.owner, "name": self.name}

    def page_of(self, trial: "Trial") -> Response:
        return see_other(f"/routes/{self.name}/{trial.name}")


def place(name: str, request: Request, services: ServicesDep, owner: PageOwnerDep) -> Place:
    return Place(name, request, services, owner)


PlaceDep = Annotated[Place, Depends(place)]


@dataclass(frozen=True)
class Trial:
    """An experiment or a migration: its page has the address and the template of ``name``, of which
    ``part`` changes while it is watched; ``form`` are its fields' first values, ``fields`` those of
    the spec that may be wrong."""

    name: str
    part: str
    form: Mapping[str, str]
    fields: tuple[str, ...]
    read: Callable[[Values], Any]
    begin: Callable[..., object]
    forecast: Callable[..., Sequence[Forecast]]
    shown: Callable[[Place], dict[str, Any]]

    @property
    def template(self) -> str:
        return f"routes/{self.name}.html"


def _experiment(at: Place) -> dict[str, Any]:
    found = store.find_experiment(**at.whose)
    shown = store.view_of(found) if found else None
    return {
        "experiment": shown,
        "figures": trials.figures(shown) if shown else None,
        "in_migration": found is not None and found.migration_id is not None,
        "outcomes": trials.IN_WORDS,
        "goals": trials.GOALS,
    }


def _migration(at: Place) -> dict[str, Any]:
    found = migration.find_migration(**at.whose)
    return {
        "migration": found,
        "shown": _shown_steps(found) if found else [],
        "states": trials.STATES,
        "outcomes": trials.IN_WORDS,
        "setbacks": trials.SETBACKS,
    }


def _shown_steps(found: MigrationView) -> list[tuple[Any, Any]]:
    """Those that have begun, the one where it stands first."""
    begun = [step for step in found.steps if step.experiment is not None]
    return [(step, trials.figures(step.experiment)) for step in reversed(begun)]


EXPERIMENT = Trial(
    name="experiment",
    part="trial",
    form=trials.EXPERIMENT_FORM,
    fields=(
        "control", "treatment", "share", "outcome", "judge", "goal", "margin", "min_effect",
        "guardrails", "max_days", "on_failure",
    ),
    read=lambda values: ExperimentSpec.model_validate(trials.parse_experiment(values)),
    begin=store.start_experiment,
    forecast=lambda **asked: [planning.forecast_experiment(**asked)],
    shown=_experiment,
)  # fmt: skip
MIGRATION = Trial(
    name="migration",
    part="walk",
    form=trials.MIGRATION_FORM,
    fields=(
        "from", "to", "outcome", "judge", "margin", "steps", "on_setback", "guardrails", "max_days",
    ),
    read=lambda values: MigrationSpec.model_validate(trials.parse_migration(values)),
    begin=migration.start_migration,
    forecast=planning.forecast_migration,
    shown=_migration,
)  # fmt: skip


@router.get("/experiment")
def show_experiment(at: PlaceDep) -> Response:
    return _show(EXPERIMENT, at)


@router.get("/migration")
def show_migration(at: PlaceDep) -> Response:
    return _show(MIGRATION, at)


@router.post("/experiment")
async def start_experiment(at: PlaceDep) -> Response:
    return await _start(EXPERIMENT, at)


@router.post("/migration")
async def start_migration(at: PlaceDep) -> Response:
    return await _start(MIGRATION, at)


@router.post("/experiment/forecast")
async def forecast_experiment(at: PlaceDep) -> Response:
    return await _forecast(EXPERIMENT, at)


@router.post("/migration/forecast")
async def forecast_migration(at: PlaceDep) -> Response:
    return await _forecast(MIGRATION, at)


@router.post("/experiment/stop")
def stop_experiment(at: PlaceDep, roll_back: Annotated[bool, Form()] = False) -> Response:
    store.stop_experiment(**at.whose, roll_back=roll_back)
    return at.page_of(EXPERIMENT)


@router.post("/migration/pause")
def pause_migration(at: PlaceDep) -> Response:
    migration.pause_migration(**at.whose)
    return at.page_of(MIGRATION)


@router.post("/migration/resume")
def resume_migration(at: PlaceDep) -> Response:
    migration.resume_migration(**at.whose)
    return at.page_of(MIGRATION)


@router.post("/migration/stop")
def stop_migration(at: PlaceDep) -> Response:
    migration.stop_migration(**at.whose)
    return at.page_of(MIGRATION)


@router.get("/shadow")
def show_shadow(at: PlaceDep) -> Response:
    return page("routes/shadow.html", name=at.name, comparisons=shadow_comparisons(**at.whose))


def _show(trial: Trial, at: Place) -> Response:
    """The whole page, or what changes of it while it is watched."""
    if "hx-request" in at.request.headers:
        return fragment(trial.template, trial.part, name=at.name, **trial.shown(at))
    return _page(trial, at, dict(trial.form))


async def _start(trial: Trial, at: Place) -> Response:
    values = await _submitted(trial, at)

    def start() -> None:
        spec, services = trial.read(values), at.services
        check_can_be_seen(services, at.owner, spec)
        trial.begin(**at.whose, spec=spec, upstreams=services.upstreams.upstreams)

    try:
        await run_in_threadpool(start)
    except (GenPlatError, ValidationError) as error:
        return await run_in_threadpool(_page, trial, at, values, error)
    return at.page_of(trial)


async def _forecast(trial: Trial, at: Place) -> Response:
    """The form again, with how long it would take."""
    values = await _submitted(trial, at)

    def forecast() -> list[str]:
        return trials.forecast_texts(trial.forecast(**at.whose, spec=trial.read(values)))

    try:
        texts = await run_in_threadpool(forecast)
    except (GenPlatError, ValidationError) as error:
        return await run_in_threadpool(_page, trial, at, values, error)
    return await run_in_threadpool(_page, trial, at, values, forecast=texts)


async def _submitted(trial: Trial, at: Place) -> Values:
    form = await at.request.form()
    return {
        field: value.strip() if isinstance(value := form.get(field, ""), str) else ""
        for field in trial.form
    }


def _page(
    trial: Trial,
    at: Place,
    values: Values,
    error: GenPlatError | ValidationError | None = None,
    forecast: Sequence[str] = (),
) -> Response:
    """With its form: who may be compared, and what was wrong."""
    if isinstance(error, GenPlatError) and error.status == 404:
        raise error
    route, database = routes.get_route(**at.whose), at.services.database
    serving = deployments.list_deployments(database=database, owner=at.owner, limit=100)
    upstreams = [f"{UPSTREAM_PREFIX}{upstream}" for upstream in at.services.upstreams.upstreams]
    return page(
        trial.template,
        status=UNPROCESSABLE if error else 200,
        name=at.name,
        values=values,
        forecast=forecast,
        sources=[label_of(target) for target in route.targets if target["weight"] > 0],
        targets=[*(found.name for found in serving.data), *upstreams],
        outcome_choices=trials.OUTCOMES,
        **trial.shown(at),
        **(problems(error, trial.fields) if error else no_problems()),
    )
