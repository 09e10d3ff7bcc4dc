"""What owners ask of runs in training, and workers that share a queue: real children and Valkey."""

import asyncio
import contextlib
import os
import signal
from typing import Any

import torch
from safetensors.torch import load_file

from shared.event_stream import control_key
from shared.job_queue import TRAIN_RUN, ArqQueue
from shared.run_events import Measured, Started
from shared.storage import Storage, manifest_problem
from tests.trainer_service.runs import make_command, stream_events, wait_until
from tests.trainer_service.workers import (
    ENDLESS,
    ask_cancel,
    child_pid,
    connected,
    ends,
    enqueue,
    fold,
    running_worker,
    steps,
)
from tests.valkey import Valkey
from trainer_service.worker import TrainerWorker


def pausing(worker: TrainerWorker) -> bool:
    return worker.supervisor is not None and worker.supervisor.ended == "paused"


def ask(valkey: Valkey, wish: str, attempt: int = 1, run_id: str = "run_a") -> None:
    with contextlib.closing(valkey.client()) as client:
        client.set(control_key(run_id), f"{attempt}:{wish}")


def learned(valkey: Valkey) -> list[int]:
    return [
        event.payload.step
        for event in stream_events(valkey)
        if isinstance(event.payload, Measured) and event.payload.loss is not None
    ]


def test_a_paused_run_goes_on_where_it_was_and_ends_as_one_that_was_not(
    storage: Storage, valkey: Valkey
) -> None:
    spec: dict[str, Any] = {"max_steps": 60, "save_steps": 1000, "lora_dropout": 0.1}

    async def scenario() -> None:
        async with running_worker(storage, valkey):
            await enqueue(valkey, make_command(storage, **spec))
            await wait_until(lambda: len(learned(valkey)) > 2)
            ask(valkey, "pause")
            await wait_until(lambda: bool(ends(valkey)))
            # The device is free for another run meanwhile.
            await enqueue(valkey, make_command(storage, run_id="run_b", **spec))
            await wait_until(lambda: len(ends(valkey)) == 2)
            await enqueue(valkey, make_command(storage, attempt=2, **spec))
            await wait_until(lambda: len(ends(valkey)) == 3)

    asyncio.run(scenario())
    assert [end.status for end in ends(valkey)] == ["paused", "succeeded", "succeeded"]
    events = [event for event in stream_events(valkey) if event.run_id == "run_a"]
    steps_of = [
        event.payload.step
        for event in events
        if isinstance(event.payload, Measured) and event.payload.loss is not None
    ]
    assert steps_of == list(range(1, 61))
    ours, theirs = (
        load_file(storage.run_result(run) / "adapter_model.safetensors")
        for run in ("run_a", "run_b")
    )
    for name, value in theirs.items():
        assert torch.allclose(value, ours[name], atol=1e-5)


def test_a_run_that_was_paused_while_it_waited_is_not_started(
    storage: Storage, valkey: Valkey
) -> None:
    async def scenario() -> None:
        ask(valkey, "pause")
        await enqueue(valkey, make_command(storage))
        async with running_worker(storage, valkey):
            await wait_until(lambda: bool(ends(valkey)))

    asyncio.run(scenario())
    assert [end.status for end in ends(valkey)] == ["paused"] and not learned(valkey)


def test_a_cancel_ends_a_run_that_is_being_paused(storage: Storage, valkey: Valkey) -> None:
    async def scenario() -> None:
        async with running_worker(storage, valkey) as worker:
            await enqueue(valkey, make_command(storage, **ENDLESS))
            await wait_until(lambda: steps(valkey) > 2)
            os.kill(child_pid(worker), signal.SIGSTOP)
            ask(valkey, "pause")
            await wait_until(
                lambda: worker.supervisor is not None and bool(worker.supervisor.ended)
            )
            ask_cancel(valkey)
            await wait_until(lambda: bool(ends(valkey)))

    asyncio.run(scenario())
    assert [end.status for end in ends(valkey)] == ["cancelled"]


def test_a_run_is_stopped_and_what_it_learned_is_kept(storage: Storage, valkey: Valkey) -> None:
    async def scenario() -> None:
        async with running_worker(storage, valkey):
            await enqueue(valkey, make_command(storage, **ENDLESS))
            await wait_until(lambda: len(learned(valkey)) > 2)
            ask(valkey, "stop")
            await wait_until(lambda: bool(ends(valkey)))

    asyncio.run(scenario())
    (end,) = ends(valkey)
    assert (end.status, end.stopped) == ("succeeded", "user") and end.eval_loss
    assert manifest_problem(storage.run_result("run_a")) is None
    assert fold(stream_events(valkey)).stopped == "user"


def test_a_stop_from_the_start_waits_for_something_to_keep(
    storage: Storage, valkey: Valkey
) -> None:
    """A child that has not begun would die of the signal."""

    async def scenario() -> None:
        ask(valkey, "stop", attempt=3)
        async with running_worker(storage, valkey):
            await enqueue(valkey, make_command(storage, attempt=3, **ENDLESS))
            await wait_until(lambda: bool(ends(valkey)))

    asyncio.run(scenario())
    assert [end.stopped for end in ends(valkey)] == ["user"]
    assert learned(valkey)[0] == 1


def test_two_workers_train_each_run_once(storage: Storage, valkey: Valkey) -> None:
    runs = [f"run_{number}" for number in range(4)]

    async def scenario() -> set[str]:
        async with running_worker(storage, valkey) as one, running_worker(storage, valkey) as two:
            two.settings.worker_name = "other"
            for run_id in runs:
                await enqueue(valkey, make_command(storage, run_id=run_id, max_steps=4))
            both = False
            while len(ends(valkey)) < len(runs):
                both = both or (one.supervisor is not None and two.supervisor is not None)
                await asyncio.sleep(0.02)
            assert both
        return {
            event.payload.worker
            for event in stream_events(valkey)
            if isinstance(event.payload, Started) and not event.payload.device
        }

    assert len(asyncio.run(scenario())) == 2
    assert [end.status for end in ends(valkey)] == ["succeeded"] * len(runs)
    first_steps = [
        event.run_id
        for event in stream_events(valkey)
        if isinstance(event.payload, Measured) and event.payload.step == 1
    ]
    assert sorted(set(first_steps)) == runs and len(ends(valkey)) == len(runs)


def test_the_smallest_rank_is_taken_first(storage: Storage, valkey: Valkey) -> None:
    async def scenario() -> None:
        async with connected(valkey) as pool:
            for run_id, rank in (("run_c", None), ("run_b", 2_000_001), ("run_a", 2_000_000)):
                command = make_command(storage, run_id=run_id, max_steps=1)
                payload = command.model_dump(mode="json")
                await ArqQueue(pool).enqueue(TRAIN_RUN, command.job_id, payload, rank=rank)
        async with running_worker(storage, valkey):
            await wait_until(lambda: len(ends(valkey)) == 3)

    asyncio.run(scenario())
    order = [event.run_id for event in stream_events(valkey) if event.payload.type == "finished"]
    assert order == ["run_a", "run_b", "run_c"]


def test_a_worker_says_that_it_listens_until_it_stops(storage: Storage, valkey: Valkey) -> None:
    async def scenario() -> None:
        async with connected(valkey) as pool:
            queue = ArqQueue(pool)
            assert await queue.listeners() == 0
            async with running_worker(storage, valkey):
                while await queue.listeners() != 1:
                    await asyncio.sleep(0.02)
            assert await queue.listeners() == 0

    asyncio.run(asyncio.wait_for(scenario(), 30))
