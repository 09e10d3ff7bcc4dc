"""`/api/upstreams`: the service LLMs that the operator declared. Their addresses and keys are
nobody's business here."""

from fastapi import APIRouter
from pydantic import BaseModel

from gateway.deps import ListPublic, ServicesDep
from gateway.orchestrator.breaker import BreakerState
from shared.route_labels import UPSTREAM_PREFIX

router = APIRouter(prefix="/api/upstreams", tags=["routes"])


class UpstreamPublic(BaseModel):
    """``state`` of its circuit breaker in this gateway, and the ``reason`` why it is not closed;
    ``problem``: why it cannot be asked at all; ``continues``: whether it goes on with an answer
    that somebody else began."""

    name: str
    model: str
    continues: bool
    state: BreakerState
    reason: str | None
    problem: str | None


@router.get("")
def list_upstreams(services: ServicesDep) -> ListPublic:
    """What `upstream` may be in a route's targets and fallbacks."""
    data = []
    for upstream in services.upstreams.upstreams.values():
        breaker = services.breakers.of(f"{UPSTREAM_PREFIX}{upstream.name}")
        data.append(
            UpstreamPublic(
                name=upstream.name,
                model=upstream.model,
                continues=upstream.continues,
                state=breaker.state,
                reason=breaker.reason,
                problem=services.upstreams.problem(upstream),
            )
        )
    return ListPublic(data=data, has_more=False)
