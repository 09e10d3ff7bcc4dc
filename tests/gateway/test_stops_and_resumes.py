"""Stopping runs to keep what they learned, resuming them, and why they wait."""

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import RedisError

from gateway.queue_watch import look_at_queue
from gateway.run_controls import settle_pause
from gateway.run_queue import queued_command
from gateway.run_views import get_run
from gateway.runs import create_run, delete_run
from gateway.settings import GatewaySettings
from shared.errors import Conflict
from shared.job_queue import say_gone, say_listening
from shared.run_events import Finished, Measured, Started
from tests.gateway.by_hand import by_hand
from tests.gateway.parts import OWNER, asynchronous, event, gateway_services, spec, success
from tests.gateway.wishes import do, trained, wanted
from tests.valkey import Valkey


@asynchronous
async def test_a_paused_run_can_be_cancelled(settings: GatewaySettings) -> None:
    async with by_hand(settings) as gateway:
        run_id = await trained(gateway)
        await do(gateway, "pause", run_id)
        await gateway.tell(event(run_id, Finished(status="paused"), seq=3))
        assert (await do(gateway, "cancel", run_id)).status == "cancelled"
        await delete_run(services=gateway.services, owner=OWNER, run_id=run_id)


@asynchronous
async def test_a_stop_is_told_until_it_took_effect(
    settings: GatewaySettings, valkey: Valkey
) -> None:
    async with by_hand(settings) as gateway:
        run_id = await gateway.running()
        with pytest.raises(Conflict, match="Nothing has been learned yet; cancel"):
            await do(gateway, "stop", run_id)
        await gateway.tell(event(run_id, Measured(step=3, total_steps=9, epoch=1, loss=1), seq=2))
        view = await do(gateway, "stop", run_id)
        assert view.status == "running" and view.stop_requested_at is not None
        assert await wanted(gateway, run_id) == b"1:stop"
        assert (await do(gateway, "stop", run_id)).stop_requested_at == view.stop_requested_at
        with pytest.raises(Conflict, match="being stopped"):
            await do(gateway, "pause", run_id)
        valkey.flush()
        await gateway.sweep()
        assert await wanted(gateway, run_id) == b"1:stop"
        # Preempted before it could: the next attempt is told from the start.
        await gateway.tell(event(run_id, Finished(status="preempted"), seq=3))
        assert (gateway.row(run_id).status, gateway.row(run_id).attempt) == ("queued", 2)
        assert await wanted(gateway, run_id) == b"2:stop"
        assert await gateway.services.queue.holds(f"{run_id}:2")
        await gateway.tell(event(run_id, Started(worker="w"), seq=1, attempt=2))
        # Lost, too.
        await gateway.sweep(after=31)
        assert gateway.row(run_id).attempt == 3
        assert await wanted(gateway, run_id) == b"3:stop"
        done = success(gateway.services.storage, run_id)
        done = done.model_copy(update={"stopped": "user"})
        await gateway.tell(event(run_id, done, seq=1, attempt=3))
        assert (gateway.row(run_id).status, gateway.row(run_id).stopped) == ("succeeded", "user")
        assert (await do(gateway, "stop", run_id)).status == "succeeded"


@asynchronous
async def test_what_a_paused_run_learned_can_be_kept(settings: GatewaySettings) -> None:
    async with by_hand(settings) as gateway:
        run_id = await trained(gateway)
        await do(gateway, "pause", run_id)
        await gateway.tell(event(run_id, Finished(status="paused"), seq=3))
        view = await do(gateway, "stop", run_id)
        assert (view.status, view.attempt, view.pause_requested_at) == ("queued", 2, None)
        assert await wanted(gateway, run_id) == b"2:stop"
        assert await gateway.services.queue.holds(f"{run_id}:2")


@pytest.mark.parametrize("status", ["queued", "running"])
def test_only_what_is_paused_can_be_resumed(settings: GatewaySettings, status: str) -> None:
    async def scenario() -> None:
        async with by_hand(settings) as gateway:
            run = await create_run(services=gateway.services, owner=OWNER, spec=spec())
            if status == "running":
                await gateway.tell(event(run.id, Started(worker="w"), seq=1))
            with pytest.raises(Conflict, match=f"is {status}; only a paused run"):
                await do(gateway, "resume", run.id)

    asyncio.run(scenario())


@asynchronous
async def test_a_resumed_run_waits_its_turn(settings: GatewaySettings) -> None:
    async with by_hand(settings) as gateway:
        services = gateway.services
        first = await create_run(services=services, owner=OWNER, spec=spec())
        second = await create_run(services=services, owner=OWNER, spec=spec())
        await do(gateway, "pause", first.id)
        view = await do(gateway, "resume", first.id)
        assert view.queue_position == 2
        # One that goes back through no wish of its owner keeps its place.
        await gateway.tell(
            event(second.id, Started(worker="w"), seq=1),
            event(second.id, Finished(status="preempted"), seq=2),
        )
        rank = gateway.row(second.id).queue_rank
        assert rank < gateway.row(first.id).queue_rank
        scores = await services.redis.zrange("genplat:queue", 0, -1, withscores=True)
        assert [(name.decode(), int(score)) for name, score in scores if b":2" in name] == [
            (f"{second.id}:2", rank),
            (f"{first.id}:2", gateway.row(first.id).queue_rank),
        ]


@asynchronous
async def test_a_pause_that_is_settled_late_touches_no_other_attempt(
    settings: GatewaySettings,
) -> None:
    async with gateway_services(settings) as services:
        run = await create_run(services=services, owner=OWNER, spec=spec())
        await do(services, "pause", run.id)
        await do(services, "resume", run.id)
        await settle_pause(services=services, run_id=run.id, attempt=1)
        assert queued_command(database=services.database, run_id=run.id) is not None


@asynchronous
async def test_why_a_run_waits(settings: GatewaySettings, own_valkey: Valkey) -> None:
    settings = settings.model_copy(update={"redis_url": own_valkey.url})
    async with gateway_services(settings) as services:

        async def reasons() -> list[str | None]:
            with contextlib.suppress(RedisError):
                await look_at_queue(services)
            views: list[Any] = [
                await asyncio.to_thread(
                    get_run, database=services.database, owner=OWNER, run_id=run.id
                )
                for run in runs
            ]
            return [view.waiting_for for view in views]

        runs = [await create_run(services=services, owner=OWNER, spec=spec()) for _ in range(3)]
        assert all("No worker is listening since" in str(reason) for reason in await reasons())
        await say_listening(services.redis, "w", seconds=60)
        assert await reasons() == [
            "Next in the queue: it starts when a worker is free.",
            "Number 2 in the queue: one run will be taken before it.",
            "Number 3 in the queue: 2 runs will be taken before it.",
        ]
        await say_listening(services.redis, "w", seconds=-1)
        assert "No worker" in str((await reasons())[0])
        await say_listening(services.redis, "w", seconds=60)
        await say_gone(services.redis, "w")
        assert "No worker" in str((await reasons())[0])
        own_valkey.stop()
        assert "Redis cannot be reached" in str((await reasons())[0])
        paused = await do(replace(services), "pause", runs[0].id)
        assert paused.waiting_for is None
