"""Events become state, once each, whatever happens to the stream on the way."""

import asyncio
from contextlib import closing
from pathlib import Path

from sqlmodel import select

from gateway.projector import READER, run_projector, start_of
from gateway.run_story import run_story
from gateway.run_views import get_run, run_metrics
from gateway.runs import cancel_run, create_run
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.tables import RunEventRow, StreamPosition
from shared import event_stream
from shared.run_events import (
    MAX_PREEMPTIONS,
    Advanced,
    Beat,
    Checkpointed,
    Finished,
    Logged,
    Measured,
    Started,
)
from tests.gateway.by_hand import by_hand
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
from tests.valkey import Valkey


def rows(services: Services, run_id: str) -> list[RunEventRow]:
    with services.database.read() as session:
        query = select(RunEventRow).where(RunEventRow.run_id == run_id)
        return list(session.exec(query.order_by(RunEventRow.attempt, RunEventRow.seq)).all())


def measured(step: int, **values: float) -> Measured:
    return Measured(step=step, total_steps=4, epoch=step / 2, **values)


@asynchronous
async def test_a_run_from_the_queue_to_its_model(settings: GatewaySettings) -> None:
    async with gateway_services(settings) as services, background(run_projector(services)):
        run = await create_run(services=services, owner=OWNER, spec=spec(suffix="uml"))
        assert (run.status, run.queue_position) == ("queued", 1)
        assert await services.queue.holds(f"{run.id}:1")
        history = [
            Started(worker="w", device="cpu"),
            Advanced(phase="training", hyperparameters={"lora_r": 8}, train_examples=10),
            measured(1, loss=2.0, learning_rate=0.1),
            measured(1, eval_loss=1.9),
            measured(2, loss=1.5, tokens_per_second=40),
            Logged(message="half-way"),
            Beat(),
            Checkpointed(step=2, path="step-2"),
            success(services.storage, run.id),
        ]
        events = [event(run.id, payload, seq=seq) for seq, payload in enumerate(history, 1)]
        await publish(services, *events, *events)
        await until(lambda: read_run(services.database, run.id).status == "succeeded")
        view = get_run(database=services.database, owner=OWNER, run_id=run.id)
        assert view.fine_tuned_model == (
            f"ft:HuggingFaceTB/SmolLM2-135M-Instruct:genplat:uml:{run.id[-8:]}"
        )
        assert (view.step, view.loss, view.eval_loss, view.trained_tokens) == (2, 1.5, 1.9, 1234)
        assert (view.device, view.hyperparameters) == ("cpu", {"lora_r": 8})
        metrics = run_metrics(database=services.database, owner=OWNER, run_id=run.id)
        assert [(row.step, row.loss, row.eval_loss) for row in metrics] == [
            (1, 2.0, 1.9),
            (2, 1.5, None),
        ]
        log = run_story(database=services.database, owner=OWNER, run_id=run.id)
        assert [line.message for line in log].count("half-way") == 1
        assert [row.seq for row in rows(services, run.id)] == [1, 2, 3, 4, 5, 6, 8, 9]


@asynchronous
async def test_strangers_and_garbage_are_stepped_over(settings: GatewaySettings) -> None:
    async with gateway_services(settings) as services, background(run_projector(services)):
        run = await create_run(services=services, owner=OWNER, spec=spec())
        await services.redis.xadd(event_stream.STREAM, {"event": "{not json"})
        await services.redis.xadd(event_stream.STREAM, {"other": "x"})
        await publish(
            services,
            event("run_unknown", Started(worker="w"), seq=1),
            event(run.id, Finished(status="failed"), seq=1, attempt=2),
            event(run.id, Started(worker="w"), seq=1),
        )
        await until(lambda: read_run(services.database, run.id).status == "running")
        assert [(row.attempt, row.seq) for row in rows(services, run.id)] == [(1, 1)]


@asynchronous
async def test_a_result_that_is_not_there_is_no_success(settings: GatewaySettings) -> None:
    async with gateway_services(settings) as services, background(run_projector(services)):
        run = await create_run(services=services, owner=OWNER, spec=spec())
        good = success(services.storage, run.id)
        for attempt in (1, 2, 3):
            wrong = good.model_copy(update={"manifest_sha256": "0" * 64})
            await publish(services, event(run.id, wrong, seq=1, attempt=attempt))
        await until(lambda: read_run(services.database, run.id).status == "failed")
        view = get_run(database=services.database, owner=OWNER, run_id=run.id)
        assert view.error is not None and view.error.code == "result_damaged"
        assert view.fine_tuned_model is None


@asynchronous
async def test_a_preempted_run_is_queued_again_at_once(settings: GatewaySettings) -> None:
    async with gateway_services(settings) as services, background(run_projector(services)):
        run = await create_run(services=services, owner=OWNER, spec=spec())
        await publish(
            services,
            event(run.id, Started(worker="w"), seq=1),
            event(run.id, Finished(status="preempted"), seq=2),
            event(run.id, measured(9, loss=1.0), seq=3),
        )
        await until(lambda: read_run(services.database, run.id).attempt == 2)
        row = read_run(services.database, run.id)
        assert (row.status, row.failures, row.step) == ("queued", 0, 0)

        for _ in range(100):
            if await services.queue.holds(f"{run.id}:2"):
                break
            await asyncio.sleep(0.02)
        assert await services.queue.holds(f"{run.id}:2")


@asynchronous
async def test_a_run_that_is_preempted_for_ever_fails_and_says_why(
    settings: GatewaySettings,
) -> None:
    async with by_hand(settings) as gateway:
        run = await create_run(services=gateway.services, owner=OWNER, spec=spec())
        for attempt in range(1, MAX_PREEMPTIONS + 1):
            row = gateway.row(run.id)
            assert (row.status, row.attempt) == ("queued", attempt)
            await gateway.tell(
                event(run.id, Advanced(phase="loading_model"), seq=1, attempt=attempt),
                event(run.id, Finished(status="preempted"), seq=2, attempt=attempt),
            )
        row = gateway.row(run.id)
        assert (row.status, row.error_code, row.failures) == ("failed", "preempted_too_often", 0)
        assert not await gateway.services.queue.holds(f"{run.id}:{MAX_PREEMPTIONS + 1}")


@asynchronous
async def test_a_preempted_run_that_is_to_be_cancelled_ends(settings: GatewaySettings) -> None:
    async with gateway_services(settings) as services, background(run_projector(services)):
        run = await create_run(services=services, owner=OWNER, spec=spec())
        await publish(services, event(run.id, Started(worker="w"), seq=1))
        await until(lambda: read_run(services.database, run.id).status == "running")
        assert (await cancel_run(services=services, owner=OWNER, run_id=run.id)).status == "running"
        assert await services.redis.get(event_stream.cancel_key(run.id)) == b"1"
        await publish(services, event(run.id, Finished(status="preempted"), seq=2))
        await until(lambda: read_run(services.database, run.id).status == "cancelled")
        assert not await services.queue.holds(f"{run.id}:2")


@asynchronous
async def test_it_goes_on_after_redis_was_away_and_emptied(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    server = Valkey(tmp_path)
    server.start()
    settings = settings.model_copy(update={"redis_url": server.url})
    try:
        async with gateway_services(settings) as services, background(run_projector(services)):
            run = await create_run(services=services, owner=OWNER, spec=spec())
            first = event(run.id, Started(worker="w"), seq=1)
            await publish(services, first)
            await until(lambda: read_run(services.database, run.id).status == "running")
            server.stop()
            assert get_run(database=services.database, owner=OWNER, run_id=run.id).step == 0
            server.start()
            second = event(run.id, measured(1, loss=1.0), seq=2)
            # An older clock: what comes now sorts before what was read already.
            with closing(server.client()) as client:
                for number, one in enumerate((first, second), 1):
                    fields = {"event": one.model_dump_json()}
                    client.xadd(event_stream.STREAM, fields, id=f"5-{number}")
            await until(lambda: read_run(services.database, run.id).step == 1)
            assert [row.seq for row in rows(services, run.id)] == [1, 2]
    finally:
        server.stop()


@asynchronous
async def test_the_position_survives_the_gateway(settings: GatewaySettings) -> None:
    async with gateway_services(settings) as services:
        run = await create_run(services=services, owner=OWNER, spec=spec())
        async with background(run_projector(services)):
            [place] = await publish(services, event(run.id, Started(worker="w"), seq=1))
            await until(lambda: read_run(services.database, run.id).status == "running")
        with services.database.read() as session:
            assert session.get_one(StreamPosition, READER).stream_id == place
        assert await start_of(services.redis, place) == place
        await services.redis.flushall()
        assert await start_of(services.redis, place) == "0-0"
