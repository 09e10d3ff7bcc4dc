"""Wishes of a run's owner, as tests make them; no fixture, no test."""

from gateway.run_views import RunView
from gateway.runs import cancel_run, pause_run, resume_run, stop_run
from gateway.services import Services
from shared.event_stream import control_key
from shared.run_events import Measured
from tests.gateway.by_hand import ByHand
from tests.gateway.parts import OWNER, event

DO = {"cancel": cancel_run, "pause": pause_run, "resume": resume_run, "stop": stop_run}


async def do(gateway: ByHand | Services, verb: str, run_id: str) -> RunView:
    services = gateway.services if isinstance(gateway, ByHand) else gateway
    return await DO[verb](services=services, owner=OWNER, run_id=run_id)


async def wanted(gateway: ByHand, run_id: str) -> bytes | None:
    value: bytes | None = await gateway.services.redis.get(control_key(run_id))
    return value


async def trained(gateway: ByHand, *, steps: int = 3) -> str:
    """A run that has learned something; the next event has seq 3."""
    run_id = await gateway.running()
    await gateway.tell(event(run_id, Measured(step=steps, total_steps=9, epoch=1, loss=1), seq=2))
    return run_id
