"""A gateway that does nothing by itself, for tests of projector and reconciler."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from gateway.projector import Projection, _project
from gateway.reconciler import Reconciler
from gateway.run_feed import RunFeed
from gateway.runs import create_run
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.tables import Run
from shared.run_events import RunEvent, Started
from tests.gateway.parts import OWNER, event, gateway_services, publish, read_run, spec


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class ByHand:
    """A gateway whose clock, projector and sweeps go on when the test says so: a machine that is
    busy elsewhere makes nobody silent."""

    def __init__(self, services: Services) -> None:
        self.clock = Clock()
        self.services = replace(services, feed=RunFeed(self.clock))
        self.projection = Projection(services.database, services.storage)
        self.reconciler = Reconciler(self.services)

    async def project(self) -> None:
        await _project(self.services, self.projection)

    async def tell(self, *events: RunEvent) -> None:
        await publish(self.services, *events)
        await self.project()

    async def sweep(self, *, after: float = 0) -> None:
        """A sweep after seconds in which the projector listens and hears nothing."""
        end = self.clock.now + after
        while self.clock.now < end:
            self.clock.now = min(self.clock.now + 1, end)
            self.services.feed.listening()
        await self.reconciler.settle_runs()

    async def running(self) -> str:
        run = await create_run(services=self.services, owner=OWNER, spec=spec())
        await self.tell(event(run.id, Started(worker="w"), seq=1))
        assert self.row(run.id).status == "running"
        return run.id

    def row(self, run_id: str) -> Run:
        return read_run(self.services.database, run_id)


@asynccontextmanager
async def by_hand(settings: GatewaySettings) -> AsyncIterator[ByHand]:
    settings = settings.model_copy(update={"run_lost_seconds": 30})
    async with gateway_services(settings) as services:
        yield ByHand(services)
