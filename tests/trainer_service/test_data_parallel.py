"""Two processes that train one model: the same curve as one, and the same ends when one is lost."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from safetensors.torch import load_file

from shared.event_stream import cancel_key, control_key
from shared.run_events import Finished, Measured, RunEvent
from shared.storage import Storage
from tests.trainer_service.runs import (
    is_gone,
    make_command,
    payloads,
    quick_settings,
    stream_events,
    wait_until,
)
from tests.trainer_service.tiny import prepare_tiny_model
from tests.valkey import Valkey
from trainer_service.data_parallel import Ranks
from trainer_service.supervisor import Supervisor

# Three processes load torch, on a machine that may be busy.
PATIENCE_SECONDS = 110
LONG: dict[str, Any] = {"max_steps": 100_000, "save_steps": 2}


@given(
    costs=st.lists(st.integers(1, 2000), max_size=40),
    size=st.integers(1, 8),
)
def test_every_row_is_learned_by_one_process(costs: list[int], size: int) -> None:
    shares = [Ranks(rank, size).share(costs) for rank in range(size)]
    assert sorted(row for share in shares for row in share) == list(range(len(costs)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    heaviest = max(costs, default=0)
    loads = [sum(costs[row] for row in share) for share in shares]
    assert max(loads) - min(loads) <= heaviest


def test_one_process_exchanges_nothing() -> None:
    alone = Ranks()
    assert alone.leads and alone.agree(1) == 1 and alone.agree(0) == 0
    alone.wait()


async def supervise(
    storage: Storage,
    valkey: Valkey,
    run_id: str,
    *,
    attempt: int = 1,
    during: Callable[[Supervisor, Redis], Any] | None = None,
    **spec: Any,
) -> Finished:
    settings = quick_settings(storage, valkey)
    redis: Redis = Redis.from_url(settings.redis_url, socket_timeout=5)
    command = make_command(storage, run_id, attempt, **spec)
    supervisor = Supervisor(command, settings=settings, redis=redis)
    running = asyncio.create_task(supervisor.run())
    try:
        if during is not None:
            await during(supervisor, redis)
        return await asyncio.wait_for(running, PATIENCE_SECONDS)
    finally:
        await redis.aclose()


def of_run(valkey: Valkey, run_id: str, attempt: int = 1) -> list[RunEvent]:
    return [
        event
        for event in stream_events(valkey)
        if event.run_id == run_id and event.attempt == attempt
    ]


def losses(events: list[RunEvent]) -> dict[int, float]:
    return {
        event.step: event.loss
        for event in payloads(events, "metrics")
        if isinstance(event, Measured) and event.loss is not None
    }


def evaluations(events: list[RunEvent]) -> list[float]:
    return [
        event.eval_loss
        for event in payloads(events, "metrics")
        if isinstance(event, Measured) and event.eval_loss is not None
    ]


def processes_of(storage: Storage) -> list[int]:
    """Everything that works on this test's data folder, by what its command line says."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            said = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(str(storage.root).encode() in part for part in said):
            found.append(int(folder.name))
    return found


def ranks_of(storage: Storage) -> list[int]:
    return [
        pid
        for pid in processes_of(storage)
        if b"trainer_service.child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_two_processes_learn_as_one_does(storage: Storage, valkey: Valkey, method: str) -> None:
    prepare_tiny_model(storage)
    same: dict[str, Any] = {"method": method, "max_steps": 8, "eval_steps": 4, "save_steps": 4}
    if method == "full":
        same["learning_rate"] = 1e-3

    async def scenario() -> None:
        alone = await supervise(storage, valkey, "run_one", per_device_train_batch_size=4, **same)
        both = await supervise(
            storage, valkey, "run_two", per_device_train_batch_size=2, devices=2, **same
        )
        assert (alone.status, both.status) == ("succeeded", "succeeded")

    asyncio.run(scenario())
    one, two = of_run(valkey, "run_one"), of_run(valkey, "run_two")
    assert list(losses(two)) == list(range(1, 9))
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    assert evaluations(two) == pytest.approx(evaluations(one), abs=1e-4)
    # One of them tells, and it tells everything once.
    kinds = [event.payload.type for event in two if event.payload.type != "heartbeat"]
    assert kinds.count("finished") == 1 and kinds.count("sample") == 4
    name = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    weights = [load_file(storage.run_result(run) / name) for run in ("run_one", "run_two")]
    for key, value in weights[0].items():
        assert (value - weights[1][key]).abs().max() < 1e-4, key


@pytest.mark.timeout(300)
@pytest.mark.parametrize("sharding", ["none", "full"])
def test_a_process_that_is_killed_ends_the_attempt_and_the_next_one_goes_on(
    storage: Storage, valkey: Valkey, sharding: str
) -> None:
    prepare_tiny_model(storage)
    several = LONG | {"devices": 2, "sharding": sharding}

    async def kill_one(_supervisor: Supervisor, _redis: Redis) -> None:
        await wait_until(lambda: len(losses(of_run(valkey, "run_a"))) > 4, PATIENCE_SECONDS)
        os.kill(ranks_of(storage)[-1], signal.SIGKILL)

    async def cancel(_supervisor: Supervisor, redis: Redis) -> None:
        await wait_until(lambda: bool(losses(of_run(valkey, "run_a", 2))), PATIENCE_SECONDS)
        await redis.set(cancel_key("run_a"), 2)

    async def scenario() -> None:
        end = await supervise(storage, valkey, "run_a", during=kill_one, **several)
        assert (end.status, end.retry) == ("failed", True), end
        assert await supervise(
            storage, valkey, "run_a", attempt=2, during=cancel, **several
        ) == Finished(status="cancelled")

    asyncio.run(scenario())
    assert not processes_of(storage)
    assert min(losses(of_run(valkey, "run_a", 2))) > 2


@pytest.mark.timeout(300)
def test_two_processes_pause_go_on_and_stop_together(storage: Storage, valkey: Valkey) -> None:
    prepare_tiny_model(storage)

    def wish(word: str, attempt: int) -> Callable[[Supervisor, Redis], Any]:
        async def during(_supervisor: Supervisor, redis: Redis) -> None:
            trained = lambda: len(losses(of_run(valkey, "run_a", attempt))) > 2  # noqa: E731
            await wait_until(trained, PATIENCE_SECONDS)
            await redis.set(control_key("run_a"), f"{attempt}:{word}")

        return during

    async def scenario() -> None:
        long = LONG | {"devices": 2, "save_steps": 100_000}
        paused = await supervise(storage, valkey, "run_a", during=wish("pause", 1), **long)
        assert paused.status == "paused"
        kept = await supervise(storage, valkey, "run_a", attempt=2, during=wish("stop", 2), **long)
        assert (kept.status, kept.stopped) == ("succeeded", "user")

    asyncio.run(scenario())
    first, second = of_run(valkey, "run_a"), of_run(valkey, "run_a", 2)
    assert min(losses(second)) == max(losses(first)) + 1
    assert not [pid for pid in processes_of(storage) if not is_gone(pid)]


def test_more_processes_than_there_are_devices_are_refused(
    storage: Storage, valkey: Valkey
) -> None:
    prepare_tiny_model(storage)
    end = asyncio.run(supervise(storage, valkey, "run_a", devices=64))
    assert end.status == "failed" and not end.retry
    assert end.message is not None and end.message.startswith("devices: 64 are asked for")
