"""`/api/routes/{name}/shadow`: what a route's shadows said beside what its readers got."""

from fastapi import APIRouter

from gateway.deps import ListPublic, OwnerDep, ServicesDep
from gateway.orchestrator.shadow_comparison import shadow_comparisons

router = APIRouter(prefix="/api/routes/{name}/shadow", tags=["routes"])


@router.get("")
def get_shadow_comparisons(name: str, services: ServicesDep, owner: OwnerDep) -> ListPublic:
    """One comparison for each target that was a shadow, of the newest pairs."""
    found = shadow_comparisons(database=services.database, owner=owner, name=name)
    return ListPublic(data=found, has_more=False)
