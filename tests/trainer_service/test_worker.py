"""The worker with real children and a real Valkey: success, cancel, kills, losses, stops."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from shared.errors import Unavailable
from shared.job_queue import (
    PREPARE_BASE_MODEL,
    PREPARE_QUEUE_NAME,
    QUEUE_NAME,
    TRAIN_RUN,
)
from shared.model_library import is_prepared
from shared.run_events import Advanced, Finished, RunEvent
from shared.storage import Storage, manifest_problem
from tests.trainer_service.runs import (
    make_command,
    nothing_is_queued,
    payloads,
    quick_settings,
    stream_events,
    wait_until,
)
from tests.trainer_service.workers import (
    ENDLESS,
    ask_cancel,
    assert_gapless,
    child_pid,
    connected,
    ends,
    enqueue,
    enqueue_preparation,
    fold,
    is_alive,
    running_worker,
    steps,
)
from tests.valkey import Valkey
from trainer_service.app import check_ready
from trainer_service.listening import taken_seconds
from trainer_service.settings import TrainerSettings
from trainer_service.worker import TrainerWorker


def life_of(valkey: Valkey, key: str) -> int:
    """Milliseconds until the key is gone; -1 where it stays, -2 where it is gone."""
    with contextlib.closing(valkey.client()) as client:
        return int(client.pttl(key))  # type: ignore[arg-type]


def test_a_run_succeeds_and_says_so_once(storage: Storage, valkey: Valkey) -> None:
    async def scenario() -> None:
        async with running_worker(storage, valkey):
            await enqueue(valkey, make_command(storage, eval_steps=6))
            await wait_until(lambda: bool(ends(valkey)))

    asyncio.run(scenario())
    events = stream_events(valkey)
    assert_gapless(events)
    assert len(ends(valkey)) == 1
    state = fold(events)
    assert state.status == "succeeded"
    assert (state.step, state.total_steps) == (12, 12)
    assert state.trained_tokens and state.tokens_per_second
    assert state.device and state.train_examples == 19 and state.validation_examples == 5
    assert payloads(events, "sample") and payloads(events, "heartbeat")
    assert manifest_problem(storage.run_result("run_a")) is None
    written = storage.run_events("run_a").read_text().splitlines()
    assert [RunEvent.model_validate_json(line) for line in written] == events


def test_a_result_that_was_not_reported_is_reported_at_once(
    storage: Storage, valkey: Valkey
) -> None:
    async def scenario() -> None:
        async with running_worker(storage, valkey):
            await enqueue(valkey, make_command(storage))
            await wait_until(lambda: bool(ends(valkey)))
            await enqueue(valkey, make_command(storage, attempt=2))
            await wait_until(lambda: len(ends(valkey)) == 2)

    asyncio.run(scenario())
    first, second = ends(valkey)
    assert second == first
    assert len([event for event in stream_events(valkey) if event.attempt == 2]) == 1


def test_cancel_ends_the_child_at_once(storage: Storage, valkey: Valkey) -> None:
    async def scenario() -> float:
        async with running_worker(storage, valkey) as worker:
            await enqueue(valkey, make_command(storage, **ENDLESS))
            await wait_until(lambda: steps(valkey) > 2)
            pid = child_pid(worker)
            asked = asyncio.get_running_loop().time()
            ask_cancel(valkey)
            await wait_until(lambda: bool(ends(valkey)))
            assert not is_alive(pid)
            return asyncio.get_running_loop().time() - asked

    assert asyncio.run(scenario()) < 3
    assert ends(valkey) == [Finished(status="cancelled")]


def test_a_killed_child_is_reported_for_another_attempt(storage: Storage, valkey: Valkey) -> None:
    async def scenario() -> None:
        async with running_worker(storage, valkey) as worker:
            await enqueue(valkey, make_command(storage, **ENDLESS))
            await wait_until(lambda: steps(valkey) > 2)
            os.kill(child_pid(worker), signal.SIGKILL)
            await wait_until(lambda: bool(ends(valkey)))

    asyncio.run(scenario())
    (end,) = ends(valkey)
    assert (end.status, end.code, end.retry) == ("failed", "oom_killed", True)
    assert fold(stream_events(valkey)).attempt == 2


def test_a_job_counts_as_taken_only_while_its_worker_lives(
    storage: Storage, valkey: Valkey
) -> None:
    key = "arq:in-progress:run_a:1"

    async def scenario() -> None:
        async with running_worker(storage, valkey):
            await enqueue(valkey, make_command(storage, **ENDLESS))
            await wait_until(lambda: bool(payloads(stream_events(valkey), "started")))
            assert 0 < life_of(valkey, key) <= 3060
            assert life_of(valkey, "arq:retry:run_a:1") == -1
            for _ in range(2):
                await wait_until(lambda: 0 < life_of(valkey, key) < 2500)
                # Said again, long before it would be forgotten.
                await wait_until(lambda: life_of(valkey, key) > 2700, seconds=3)
            ask_cancel(valkey)
            await wait_until(lambda: nothing_is_queued(valkey))

    asyncio.run(scenario())


def test_the_gateway_gives_a_worker_up_before_its_job_is_free(tmp_path: Path) -> None:
    settings = TrainerSettings(data_dir=tmp_path)
    # Silence is noticed by a sweep, and counted from the first sweep that sees the job.
    assert taken_seconds(settings) > settings.run_lost_seconds + 2 * settings.reconcile_seconds


def test_what_a_killed_worker_left_behind_is_ended_and_forgotten(
    storage: Storage, valkey: Valkey, source: Path
) -> None:
    command = make_command(storage, max_steps=2)
    jobs = (command.job_id, "prepare:mine:1")

    async def leave_behind() -> None:
        await enqueue(valkey, command)
        await enqueue_preparation(valkey, source)
        async with connected(valkey) as pool:
            for job_id in jobs:
                await pool.set(f"arq:in-progress:{job_id}", b"1", px=1500)
                await pool.set(f"arq:retry:{job_id}", 1)

    async def scenario() -> None:
        await leave_behind()
        async with running_worker(storage, valkey):
            await wait_until(lambda: nothing_is_queued(valkey), seconds=20)
            assert not stream_events(valkey) and not is_prepared(storage, "me/mine")
            # The gateway queues again what is gone from the queue: under the same id.
            await enqueue(valkey, command)
            await enqueue_preparation(valkey, source)
            await wait_until(lambda: bool(ends(valkey)) and is_prepared(storage, "me/mine"))

    asyncio.run(scenario())
    assert [end.status for end in ends(valkey)] == ["succeeded"]


def test_a_worker_is_ready_when_it_listens_to_both_queues(storage: Storage, valkey: Valkey) -> None:
    async def scenario() -> None:
        async with running_worker(storage, valkey) as worker:
            task = asyncio.create_task(asyncio.sleep(60))
            await wait_until(lambda: worker.listening)
            await check_ready(worker, task)
            assert {each.queue_name for each in worker.listeners} == {
                QUEUE_NAME,
                PREPARE_QUEUE_NAME,
            }
            for listener in worker.listeners:
                listener.listening = False
                with pytest.raises(Unavailable, match="does not listen"):
                    await check_ready(worker, task)
                listener.listening = True
            task.cancel()
        assert not worker.listening

    asyncio.run(scenario())


def test_jobs_that_come_while_the_worker_stops_are_not_begun(
    storage: Storage, valkey: Valkey, source: Path
) -> None:
    """ARQ may have picked one just before it was told to pick no more."""

    async def scenario() -> None:
        worker = TrainerWorker(quick_settings(storage, valkey))
        await worker.stop()
        handlers = worker.listeners[0].handlers
        command = make_command(storage, **ENDLESS).model_dump(mode="json")
        await asyncio.wait_for(handlers[TRAIN_RUN]({"job_id": "run_a:1"}, command), 20)
        payload = {"model_id": "me/mine", "folder": str(source)}
        await asyncio.wait_for(handlers[PREPARE_BASE_MODEL]({"job_id": "p"}, payload), 20)
        await worker.close()

    asyncio.run(scenario())
    assert [end.status for end in ends(valkey)] == ["preempted"]
    assert not storage.run_checkpoints("run_a").exists()
    assert not is_prepared(storage, "me/mine")


def test_a_stopped_worker_saves_and_the_next_attempt_goes_on(
    storage: Storage, valkey: Valkey
) -> None:
    async def scenario() -> None:
        async with running_worker(storage, valkey):
            await enqueue(valkey, make_command(storage, max_steps=400, save_steps=1000))
            await wait_until(lambda: steps(valkey) > 2)
        assert [end.status for end in ends(valkey)] == ["preempted"]
        async with running_worker(storage, valkey):
            command = make_command(storage, attempt=2, max_steps=400, save_steps=1000)
            await enqueue(valkey, command)
            await wait_until(lambda: len(ends(valkey)) == 2)

    asyncio.run(scenario())
    events = stream_events(valkey)
    assert ends(valkey)[1].status == "succeeded"
    resumed = [
        event.payload.resumed_from_step
        for event in events
        if isinstance(event.payload, Advanced) and event.payload.resumed_from_step
    ]
    learned = [
        event.payload.step  # type: ignore[union-attr]
        for event in events
        if event.payload.type == "metrics" and event.payload.loss is not None
    ]
    assert len(resumed) == 1
    # No step is repeated and none is missing.
    assert learned == list(range(1, 401))


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"target_modules": ["nowhere"]}, "invalid_spec", "target_modules"),
        ({"max_length": 16}, "invalid_data", "max_length"),
    ],
)
def test_a_hopeless_run_fails_with_a_sentence_and_no_retry(
    storage: Storage, valkey: Valkey, changes: dict[str, Any], code: str, word: str
) -> None:
    async def scenario() -> None:
        async with running_worker(storage, valkey):
            await enqueue(valkey, make_command(storage, **changes))
            await wait_until(lambda: bool(ends(valkey)))

    asyncio.run(scenario())
    (end,) = ends(valkey)
    assert (end.status, end.code, end.retry) == ("failed", code, False)
    assert end.message is not None and word in end.message
