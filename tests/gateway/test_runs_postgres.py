"""Projector and reconciler on a real PostgreSQL: locks, guarded updates and cascades there."""

import asyncio

from gateway.database import Database
from gateway.projector import run_projector
from gateway.reconciler import lose_worker
from gateway.run_story import run_story
from gateway.run_views import get_run, list_runs, run_metrics
from gateway.runs import cancel_run, create_run, delete_run
from gateway.settings import GatewaySettings
from gateway.tables import Run
from shared.run_events import Finished, Logged, Measured, Started
from tests.gateway.parts import (
    OWNER,
    asynchronous,
    background,
    event,
    gateway_services,
    publish,
    read_run,
    spec,
    success,
    until,
)


@asynchronous
async def test_a_cancel_waits_for_the_event_that_is_being_written(
    settings: GatewaySettings, postgres: Database
) -> None:
    url = postgres.engine.url.render_as_string(hide_password=False)
    settings = settings.model_copy(update={"database_url": url})
    async with gateway_services(settings) as services:
        run = await create_run(services=services, owner=OWNER, spec=spec())
        with services.database.write() as session:
            row = session.get_one(Run, run.id, with_for_update=True)
            cancel = asyncio.create_task(cancel_run(services=services, owner=OWNER, run_id=run.id))
            await asyncio.sleep(0.3)
            assert not cancel.done()
            row.last_seq = 7
            session.add(row)
        assert (await cancel).status == "cancelled"


@asynchronous
async def test_a_run_on_postgresql(settings: GatewaySettings, postgres: Database) -> None:
    url = postgres.engine.url.render_as_string(hide_password=False)
    settings = settings.model_copy(update={"database_url": url})
    async with gateway_services(settings) as services, background(run_projector(services)):
        database = services.database
        run = await create_run(services=services, owner=OWNER, spec=spec())
        second = await create_run(services=services, owner=OWNER, spec=spec())
        assert (run.queue_position, second.queue_position) == (1, 2)
        measured = Measured(step=1, total_steps=2, epoch=0.5, loss=1.0)
        first = [Started(worker="w"), measured, Logged(message="NUL \x00 and so on")]
        await publish(services, *(event(run.id, one, seq=n) for n, one in enumerate(first, 1)))
        await until(lambda: read_run(database, run.id).last_seq == 3)
        assert lose_worker(database=database, seen=read_run(database, run.id))
        # Text that PostgreSQL cannot store must not hold up the stream.
        poison = Finished(status="failed", message="\x00")
        done = success(services.storage, run.id)
        await publish(
            services,
            event(second.id, poison, seq=1),
            event(run.id, measured, seq=1, attempt=2),
            event(run.id, done, seq=2, attempt=2),
        )
        await until(lambda: read_run(database, run.id).status == "succeeded")
        view = get_run(database=database, owner=OWNER, run_id=run.id)
        assert (view.attempt, view.loss) == (2, 1.0)
        assert len(run_metrics(database=database, owner=OWNER, run_id=run.id)) == 1
        story = run_story(database=database, owner=OWNER, run_id=run.id)
        assert [line.attempt for line in story] == [1, 1, 2, 2, 2]
        cancelled = await cancel_run(services=services, owner=OWNER, run_id=second.id)
        assert cancelled.status == "cancelled"
        await delete_run(services=services, owner=OWNER, run_id=run.id)
        left = list_runs(database=database, owner=OWNER).data
        assert [one.id for one in left] == [second.id]
