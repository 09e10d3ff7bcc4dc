"""`/api/routes/{name}/migration`: a route's walk from one target to another, step by step."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from gateway.deps import ListPublic, OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim
from gateway.orchestrator.experiments import migration, planning
from gateway.orchestrator.experiments.checks import check_can_be_seen
from gateway.orchestrator.experiments.migration_shapes import MigrationSpec, MigrationView

router = APIRouter(prefix="/api/routes/{name}/migration", tags=["migrations"])


@router.post("", status_code=201, response_model=MigrationView)
async def start_migration(
    name: str, spec: MigrationSpec, services: ServicesDep, owner: OwnerDep, once: OnceDep
) -> JSONResponse:
    """Begin with the first step. Each must hold before the next is taken."""

    async def create(claim: Claim | None) -> MigrationView:
        await run_in_threadpool(check_can_be_seen, services, owner, spec)
        begun = await run_in_threadpool(
            migration.start_migration,
            database=services.database,
            owner=owner,
            name=name,
            spec=spec,
            upstreams=services.upstreams.upstreams,
            claim=claim,
        )
        return await load(begun.id)

    async def load(migration_id: str) -> MigrationView:
        return await run_in_threadpool(
            migration.migration_by_id,
            database=services.database,
            owner=owner,
            migration_id=migration_id,
        )

    return await once(create, load=load)


@router.post("/forecast")
def forecast_migration(
    name: str, spec: MigrationSpec, services: ServicesDep, owner: OwnerDep
) -> ListPublic:
    """How many units and days each step would need; begins nothing."""
    found = planning.forecast_migration(
        database=services.database, owner=owner, name=name, spec=spec
    )
    return ListPublic(data=found, has_more=False)


@router.get("")
def get_migration(name: str, services: ServicesDep, owner: OwnerDep) -> MigrationView:
    """The one that is under way, else the last one: its steps, figures and decisions."""
    return migration.get_migration(database=services.database, owner=owner, name=name)


@router.post("/pause")
def pause_migration(name: str, services: ServicesDep, owner: OwnerDep) -> MigrationView:
    """Stay where it is; nothing is counted meanwhile."""
    return migration.pause_migration(database=services.database, owner=owner, name=name)


@router.post("/resume")
def resume_migration(name: str, services: ServicesDep, owner: OwnerDep) -> MigrationView:
    """Go on; the step begins anew."""
    return migration.resume_migration(database=services.database, owner=owner, name=name)


@router.delete("")
def stop_migration(name: str, services: ServicesDep, owner: OwnerDep) -> MigrationView:
    """Back to the start, and no further."""
    return migration.stop_migration(database=services.database, owner=owner, name=name)
