"""`/api/routes/{name}/experiment`: two targets of a route compared on its requests."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from gateway.deps import OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim
from gateway.orchestrator.experiments import planning, store
from gateway.orchestrator.experiments.checks import check_can_be_seen
from gateway.orchestrator.experiments.planning import Forecast
from gateway.orchestrator.experiments.spec import ExperimentSpec
from gateway.orchestrator.experiments.store import ExperimentView, view_of

router = APIRouter(prefix="/api/routes/{name}/experiment", tags=["experiments"])


class StopSpec(BaseModel):
    """``roll_back``: to the weights before the experiment; without, they stay as they are."""

    model_config = ConfigDict(extra="forbid")

    roll_back: bool = False


@router.post("", status_code=201, response_model=ExperimentView)
async def start_experiment(
    name: str, spec: ExperimentSpec, services: ServicesDep, owner: OwnerDep, once: OnceDep
) -> JSONResponse:
    """Give the treatment its share of the requests, and watch until the figures decide."""

    async def create(claim: Claim | None) -> ExperimentView:
        await run_in_threadpool(check_can_be_seen, services, owner, spec)
        experiment = await run_in_threadpool(
            store.start_experiment,
            database=services.database,
            owner=owner,
            name=name,
            spec=spec,
            upstreams=services.upstreams.upstreams,
            claim=claim,
        )
        return view_of(experiment)

    async def load(experiment_id: str) -> ExperimentView:
        found = await run_in_threadpool(
            store.experiment_by_id,
            database=services.database,
            owner=owner,
            experiment_id=experiment_id,
        )
        return view_of(found)

    return await once(create, load=load)


@router.post("/forecast")
def forecast_experiment(
    name: str, spec: ExperimentSpec, services: ServicesDep, owner: OwnerDep
) -> Forecast:
    """How many units it would need, and how many days at the route's pace; begins nothing."""
    return planning.forecast_experiment(
        database=services.database, owner=owner, name=name, spec=spec
    )


@router.get("")
def get_experiment(name: str, services: ServicesDep, owner: OwnerDep) -> ExperimentView:
    """The one that runs, else the last one, with its figures and what was decided."""
    return view_of(store.get_experiment(database=services.database, owner=owner, name=name))


@router.post("/stop")
def stop_experiment(
    name: str, services: ServicesDep, owner: OwnerDep, spec: StopSpec | None = None
) -> ExperimentView:
    """End it by hand."""
    roll_back = spec is not None and spec.roll_back
    stopped = store.stop_experiment(
        database=services.database, owner=owner, name=name, roll_back=roll_back
    )
    return view_of(stopped)


@router.delete("")
def undo_experiment(name: str, services: ServicesDep, owner: OwnerDep) -> ExperimentView:
    """End it by hand, with the weights as they were before it."""
    stopped = store.stop_experiment(
        database=services.database, owner=owner, name=name, roll_back=True
    )
    return view_of(stopped)
