"""Pausing, resuming and stopping runs, with workers that hear of it late or never."""

import asyncio

import pytest

from gateway.run_story import run_story
from gateway.runs import create_run, delete_run
from gateway.settings import GatewaySettings
from shared.errors import Conflict
from shared.event_stream import cancel_key
from shared.run_events import Advanced, Finished, Started
from tests.gateway.by_hand import by_hand
from tests.gateway.parts import OWNER, asynchronous, event, spec, success
from tests.gateway.wishes import do, trained, wanted
from tests.valkey import Valkey


@asynchronous
async def test_a_run_that_waits_is_paused_at_once(settings: GatewaySettings) -> None:
    async with by_hand(settings) as gateway:
        services = gateway.services
        run = await create_run(services=services, owner=OWNER, spec=spec())
        view = await do(gateway, "pause", run.id)
        assert (view.status, view.attempt, view.queue_position) == ("paused", 1, None)
        assert view.pause_requested_at is not None
        assert not await services.queue.holds(f"{run.id}:1")
        assert (await do(gateway, "pause", run.id)).status == "paused"
        await gateway.sweep(after=3600)
        assert gateway.row(run.id).status == "paused"
        assert not await services.queue.holds(f"{run.id}:1")
        with pytest.raises(Conflict, match="Cancel it"):
            await delete_run(services=services, owner=OWNER, run_id=run.id)

        again = await do(gateway, "resume", run.id)
        assert (again.status, again.attempt, again.pause_requested_at) == ("queued", 2, None)
        assert await services.queue.holds(f"{run.id}:2")
        # Sent twice.
        assert (await do(gateway, "resume", run.id)).attempt == 2
        await gateway.tell(event(run.id, Started(worker="w"), seq=1, attempt=2))
        assert (await do(gateway, "resume", run.id)).status == "running"


@asynchronous
async def test_a_training_run_is_paused_by_its_worker(settings: GatewaySettings) -> None:
    async with by_hand(settings) as gateway:
        run_id = await trained(gateway)
        view = await do(gateway, "pause", run_id)
        assert view.status == "running" and view.pause_requested_at is not None
        assert await wanted(gateway, run_id) == b"1:pause"
        assert (await do(gateway, "pause", run_id)).pause_requested_at == view.pause_requested_at
        with pytest.raises(Conflict, match="still being paused"):
            await do(gateway, "resume", run_id)
        with pytest.raises(Conflict, match="being paused"):
            await do(gateway, "stop", run_id)
        await gateway.tell(event(run_id, Finished(status="paused"), seq=3))
        row = gateway.row(run_id)
        assert (row.status, row.step, row.failures, row.finished_at) == ("paused", 3, 0, None)
        again = await do(gateway, "resume", run_id)
        assert (again.status, again.attempt, again.step) == ("queued", 2, 3)
        # What was said to the first attempt is not meant for the second.
        assert await wanted(gateway, run_id) == b"1:pause"
        await gateway.tell(
            event(run_id, Started(worker="w"), seq=1, attempt=2),
            event(run_id, Advanced(phase="training", resumed_from_step=3), seq=2, attempt=2),
        )
        assert (gateway.row(run_id).status, gateway.row(run_id).step) == ("running", 3)
        lines = run_story(database=gateway.services.database, owner=OWNER, run_id=run_id)
        said = [line.message for line in lines]
        assert "Paused; what was learned is saved." in said
        assert "Resumed: attempt 2 waits." in said


@asynchronous
async def test_a_pause_is_repeated_until_it_took_effect(
    settings: GatewaySettings, valkey: Valkey
) -> None:
    async with by_hand(settings) as gateway:
        run_id = await trained(gateway)
        await do(gateway, "pause", run_id)
        valkey.flush()
        assert await wanted(gateway, run_id) is None
        await gateway.sweep()
        assert await wanted(gateway, run_id) == b"1:pause"
        # Its worker is lost before it heard of that: no failure, and no other attempt.
        await gateway.sweep(after=31)
        row = gateway.row(run_id)
        assert (row.status, row.attempt, row.failures) == ("paused", 1, 0)
        assert not await gateway.services.queue.holds(f"{run_id}:2")
        # It was only frozen.
        await gateway.tell(event(run_id, success(gateway.services.storage, run_id), seq=3))
        assert gateway.row(run_id).status == "paused"
        assert (await do(gateway, "resume", run_id)).attempt == 2


@asynchronous
async def test_a_pause_that_comes_when_a_worker_has_just_taken_the_run(
    settings: GatewaySettings,
) -> None:
    async with by_hand(settings) as gateway:
        services = gateway.services
        run = await create_run(services=services, owner=OWNER, spec=spec())
        await services.redis.set(f"arq:in-progress:{run.id}:1", b"1")
        view = await do(gateway, "pause", run.id)
        assert (view.status, await wanted(gateway, run.id)) == ("queued", b"1:pause")
        await gateway.sweep()
        assert gateway.row(run.id).status == "queued"
        await services.redis.delete(f"arq:in-progress:{run.id}:1")
        await gateway.tell(
            event(run.id, Started(worker="w"), seq=1),
            event(run.id, Finished(status="paused"), seq=2),
        )
        assert gateway.row(run.id).status == "paused"


@asynchronous
async def test_a_pause_that_a_dead_worker_should_have_heard_is_settled_by_the_sweep(
    settings: GatewaySettings,
) -> None:
    async with by_hand(settings) as gateway:
        services = gateway.services
        run = await create_run(services=services, owner=OWNER, spec=spec())
        await services.redis.set(f"arq:in-progress:{run.id}:1", b"1")
        await do(gateway, "pause", run.id)
        await services.redis.delete(f"arq:in-progress:{run.id}:1")
        await gateway.sweep()
        assert gateway.row(run.id).status == "paused"
        assert not await services.queue.holds(f"{run.id}:1")


@asynchronous
async def test_a_pause_while_redis_is_away_keeps_the_job_from_being_done_later(
    settings: GatewaySettings, own_valkey: Valkey
) -> None:
    settings = settings.model_copy(update={"redis_url": own_valkey.url})
    async with by_hand(settings) as gateway:
        run = await create_run(services=gateway.services, owner=OWNER, spec=spec())
        own_valkey.stop()
        assert (await do(gateway, "pause", run.id)).status == "paused"
        own_valkey.start()
        await gateway.services.queue.enqueue("train_run", f"{run.id}:1", {})
        await gateway.sweep()
        assert not await gateway.services.queue.holds(f"{run.id}:1")


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (Finished(status="preempted"), ("paused", 1)),
        (Finished(status="failed", code="x", retry=True), ("paused", 1)),
        (Finished(status="failed", code="x"), ("failed", 1)),
        (Finished(status="cancelled"), ("cancelled", 1)),
    ],
)
def test_what_else_may_end_an_attempt_that_was_to_be_paused(
    settings: GatewaySettings, end: Finished, expected: tuple[str, int]
) -> None:
    async def scenario() -> None:
        async with by_hand(settings) as gateway:
            run_id = await trained(gateway)
            await do(gateway, "pause", run_id)
            await gateway.tell(event(run_id, end, seq=3))
            row = gateway.row(run_id)
            assert (row.status, row.attempt) == expected
            assert not await gateway.services.queue.holds(f"{run_id}:2")

    asyncio.run(scenario())


@asynchronous
async def test_a_run_that_was_through_before_its_pause_has_succeeded(
    settings: GatewaySettings,
) -> None:
    async with by_hand(settings) as gateway:
        run_id = await trained(gateway)
        await do(gateway, "pause", run_id)
        await gateway.tell(event(run_id, success(gateway.services.storage, run_id), seq=3))
        assert gateway.row(run_id).status == "succeeded"
        for verb in ("pause", "resume", "stop"):
            with pytest.raises(Conflict, match="succeeded"):
                await do(gateway, verb, run_id)


@asynchronous
async def test_a_cancel_goes_before_a_pause(settings: GatewaySettings) -> None:
    async with by_hand(settings) as gateway:
        run_id = await trained(gateway)
        await do(gateway, "pause", run_id)
        await do(gateway, "cancel", run_id)
        assert await gateway.services.redis.get(cancel_key(run_id)) == b"1"
        with pytest.raises(Conflict, match="being cancelled"):
            await do(gateway, "stop", run_id)
        await gateway.tell(event(run_id, Finished(status="paused"), seq=3))
        assert gateway.row(run_id).status == "cancelled"
