"""`/api/answering`: what stands behind a model's name, for who asks it many things."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway.answering.identity import identify
from gateway.deps import OwnerDep, ServicesDep

router = APIRouter(prefix="/api/answering", tags=["models"])


class IdentityPublic(BaseModel):
    """``sha256`` is that of the manifest of the weights, null where they are somebody else's, not
    always the same, or not there yet (``loads``: the first request brings them). ``capacity``:
    how many requests are answered at once."""

    model: str
    sha256: str | None
    loads: bool
    capacity: int


@router.get("")
async def get_identity(
    model: Annotated[str, Query(min_length=1, max_length=500)],
    services: ServicesDep,
    owner: OwnerDep,
) -> IdentityPublic:
    """Which weights answer as ``model``, and how many requests at once."""
    found = await identify(services=services, owner=owner, model=model)
    return IdentityPublic(
        model=model, sha256=found.sha256, loads=found.loads, capacity=found.capacity
    )
