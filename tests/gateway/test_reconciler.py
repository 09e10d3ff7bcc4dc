"""Faults of queue and workers, and what the sweep makes of them."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from gateway.projector import run_projector
from gateway.reconciler import (
    Reconciler,
    lose_worker,
    run_reconciler,
)
from gateway.run_feed import RunFeed
from gateway.run_states import state_of
from gateway.run_story import run_story
from gateway.run_views import get_run
from gateway.runs import REDIS_ERRORS, cancel_run, create_run
from gateway.services import Services
from gateway.settings import GatewaySettings
from shared.event_stream import cancel_key
from shared.run_events import Beat, Measured, Started
from tests.gateway.by_hand import Clock, by_hand
from tests.gateway.parts import (
    LONG,
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
from tests.valkey import Valkey

FAST = {"reconcile_seconds": 0.1, "run_lost_seconds": 0.6, "heartbeat_seconds": 0.1}


def fast(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update=FAST)


async def running(services: Services) -> str:
    run = await create_run(services=services, owner=OWNER, spec=spec())
    await publish(services, event(run.id, Started(worker="w"), seq=1))
    await until(lambda: read_run(services.database, run.id).status == "running")
    return run.id


async def queue_holds(services: Services, job_id: str) -> bool:
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        if await services.queue.holds(job_id):
            return True
        await asyncio.sleep(0.05)
    return False


def both(services: Services) -> AbstractAsyncContextManager[None]:
    return background(run_projector(services), run_reconciler(services))


@asynchronous
async def test_a_queued_run_outlives_an_emptied_redis(
    settings: GatewaySettings, valkey: Valkey
) -> None:
    async with gateway_services(fast(settings)) as services, both(services):
        run = await create_run(services=services, owner=OWNER, spec=spec())
        assert await services.queue.holds(f"{run.id}:1")
        valkey.flush()
        assert await queue_holds(services, f"{run.id}:1")
        assert read_run(services.database, run.id).attempt == 1


@asynchronous
async def test_a_run_made_while_redis_is_away_is_queued_when_it_is_back(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    server = Valkey(tmp_path)
    settings = fast(settings).model_copy(update={"redis_url": server.url})
    async with gateway_services(settings) as services, both(services):
        run = await create_run(services=services, owner=OWNER, spec=spec())
        assert run.status == "queued"
        server.start()
        try:
            assert await queue_holds(services, f"{run.id}:1")
        finally:
            server.stop()


@asynchronous
async def test_a_training_run_is_left_alone_when_redis_is_emptied(
    settings: GatewaySettings, valkey: Valkey
) -> None:
    async with by_hand(settings) as gateway:
        run_id = await gateway.running()
        valkey.flush()
        # Two minutes of a worker that is slow to report.
        for seq in range(2, 8):
            await gateway.sweep(after=20)
            await gateway.tell(event(run_id, Beat(), seq=seq))
        assert (gateway.row(run_id).status, gateway.row(run_id).attempt) == ("running", 1)
        assert not await gateway.services.queue.holds(f"{run_id}:1")
        done = success(gateway.services.storage, run_id)
        await gateway.tell(event(run_id, done, seq=8))
        assert gateway.row(run_id).status == "succeeded"


@asynchronous
async def test_a_lost_worker_costs_an_attempt_and_its_late_words_nothing(
    settings: GatewaySettings,
) -> None:
    async with by_hand(settings) as gateway:
        run_id = await gateway.running()
        await gateway.sweep(after=30)
        assert (gateway.row(run_id).status, gateway.row(run_id).attempt) == ("running", 1)
        await gateway.sweep(after=1)
        row = gateway.row(run_id)
        assert (row.status, row.attempt, row.failures, row.last_seq) == ("queued", 2, 1, 0)
        assert await gateway.services.queue.holds(f"{run_id}:2")
        # It may only be frozen: when it wakes it is to stop. The next attempt is not meant.
        assert await gateway.services.redis.get(cancel_key(run_id)) == b"1"
        # The worker was only frozen. Its attempt is over all the same.
        await gateway.tell(
            event(run_id, Measured(step=3, total_steps=4, epoch=1, loss=0.1), seq=2),
            event(run_id, success(gateway.services.storage, run_id), seq=3),
            event(run_id, Started(worker="v"), seq=1, attempt=2),
        )
        assert (gateway.row(run_id).status, gateway.row(run_id).loss) == ("running", None)
        log = run_story(database=gateway.services.database, owner=OWNER, run_id=run_id)
        assert [line.attempt for line in log] == [2]


@asynchronous
async def test_three_lost_workers_are_enough(settings: GatewaySettings) -> None:
    async with by_hand(settings) as gateway:
        run_id = await gateway.running()
        for attempt in (2, 3):
            await gateway.sweep(after=31)
            assert (gateway.row(run_id).status, gateway.row(run_id).attempt) == ("queued", attempt)
            await gateway.tell(event(run_id, Started(worker="w"), seq=1, attempt=attempt))
        await gateway.sweep(after=31)
        view = get_run(database=gateway.services.database, owner=OWNER, run_id=run_id)
        assert (view.status, view.attempt) == ("failed", 3)
        assert view.error is not None and view.error.code == "worker_lost"


@asynchronous
async def test_a_run_that_waits_is_not_lost(settings: GatewaySettings) -> None:
    async with by_hand(settings) as gateway:
        run = await create_run(services=gateway.services, owner=OWNER, spec=spec())
        for _ in range(3):
            await gateway.sweep(after=3600)
        assert (gateway.row(run.id).status, gateway.row(run.id).attempt) == ("queued", 1)


@asynchronous
async def test_a_worker_killed_before_its_first_word_is_lost_too(
    settings: GatewaySettings, valkey: Valkey
) -> None:
    async with gateway_services(fast(settings)) as services, both(services):
        run = await create_run(services=services, owner=OWNER, spec=spec())
        # What a killed ARQ worker leaves behind.
        await services.redis.set(f"arq:in-progress:{run.id}:1", b"1")
        await until(lambda: read_run(services.database, run.id).attempt == 2)
        assert await queue_holds(services, f"{run.id}:2")


@asynchronous
async def test_nobody_is_lost_while_redis_is_away(
    settings: GatewaySettings, own_valkey: Valkey
) -> None:
    settings = settings.model_copy(update={"redis_url": own_valkey.url})
    async with by_hand(settings) as gateway:
        run_id = await gateway.running()
        own_valkey.stop()
        for _ in range(3):
            gateway.clock.now += 3600
            with pytest.raises(REDIS_ERRORS):
                await gateway.project()
            with pytest.raises(REDIS_ERRORS):
                await gateway.sweep()
        assert gateway.row(run_id).status == "running"
        own_valkey.start()
        # From here on there is somebody who listens, and silence counts.
        await gateway.project()
        await gateway.sweep(after=30)
        assert (gateway.row(run_id).status, gateway.row(run_id).attempt) == ("running", 1)
        await gateway.sweep(after=1)
        assert gateway.row(run_id).attempt == 2


@asynchronous
async def test_a_cancel_that_no_worker_hears(settings: GatewaySettings, valkey: Valkey) -> None:
    async with by_hand(settings) as gateway:
        redis = gateway.services.redis
        run_id = await gateway.running()
        await cancel_run(services=gateway.services, owner=OWNER, run_id=run_id)
        valkey.flush()
        await gateway.sweep()
        assert await redis.get(cancel_key(run_id)) == b"1"
        assert gateway.row(run_id).status == "running"
        await gateway.sweep(after=31)
        assert (gateway.row(run_id).status, gateway.row(run_id).attempt) == ("cancelled", 1)


@asynchronous
async def test_what_redis_missed_is_repeated_as_soon_as_it_is_back(
    settings: GatewaySettings, own_valkey: Valkey
) -> None:
    """And not with the next sweep, before which a run may come to its end."""
    update = {"redis_url": own_valkey.url, "reconcile_seconds": 600, "run_lost_seconds": 600}
    async with gateway_services(settings.model_copy(update=update)) as services, both(services):
        run_id = await running(services)
        own_valkey.stop()
        await cancel_run(services=services, owner=OWNER, run_id=run_id)
        # (The reader of events finds out, as it would within a second.)
        await asyncio.sleep(1.5)
        own_valkey.start()
        deadline = time.monotonic() + LONG
        while await services.redis.get(cancel_key(run_id)) is None:
            assert time.monotonic() < deadline, "the wish was not repeated"
            await asyncio.sleep(0.05)


@asynchronous
async def test_a_cancelled_run_leaves_the_queue(settings: GatewaySettings) -> None:
    async with gateway_services(settings) as services:
        run = await create_run(services=services, owner=OWNER, spec=spec())
        assert (await cancel_run(services=services, owner=OWNER, run_id=run.id)).status == (
            "cancelled"
        )
        assert not await services.queue.holds(f"{run.id}:1")
        # It was cancelled while Redis was away: the job is still there.
        await services.queue.enqueue("train_run", f"{run.id}:1", {})
        await Reconciler(services).settle_runs()
        assert not await services.queue.holds(f"{run.id}:1")


@asynchronous
async def test_a_run_that_moved_meanwhile_is_not_lost(settings: GatewaySettings) -> None:
    async with gateway_services(settings) as services:
        async with background(run_projector(services)):
            run_id = await running(services)
            seen = read_run(services.database, run_id)
            await publish(services, event(run_id, Beat(), seq=2))
            await until(lambda: read_run(services.database, run_id).last_seq == 2)
        assert not lose_worker(database=services.database, seen=seen)
        now = read_run(services.database, run_id)
        assert state_of(now).status == "running"
        assert lose_worker(database=services.database, seen=now)


def test_silence_means_nothing_while_nobody_listens() -> None:
    clock = Clock()
    feed = RunFeed(clock)
    assert feed.silence("run_a", 1) is None
    feed.listening()
    assert feed.silence("run_a", 1) == 0
    clock.now = 4
    feed.listening()
    assert feed.silence("run_a", 1) == 4
    feed.heard("run_a", 1)
    clock.now = 8
    feed.listening()
    assert feed.silence("run_a", 1) == 4
    assert feed.silence("run_a", 2) == 0
    # The process stood still for a minute, or Redis was away: everybody starts anew.
    clock.now = 68
    assert feed.silence("run_a", 1) is None
    feed.listening()
    assert feed.silence("run_a", 1) == 0
    feed.forget_all_but(set())
    clock.now = 70
    feed.listening()
    assert feed.silence("run_a", 1) == 0
