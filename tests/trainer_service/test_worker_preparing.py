"""Base models that a worker prepares, beside its runs and for them."""

import asyncio
from pathlib import Path

from shared.job_queue import (
    PREPARE_BASE_MODEL,
    QUEUE_NAME,
)
from shared.model_library import is_prepared
from shared.storage import Storage, manifest_problem
from tests.trainer_service.runs import (
    make_command,
    nothing_is_queued,
    wait_until,
)
from tests.trainer_service.workers import (
    ENDLESS,
    ask_cancel,
    child_pid,
    connected,
    ends,
    enqueue,
    enqueue_preparation,
    is_alive,
    running_worker,
    steps,
)
from tests.valkey import Valkey


def test_a_model_is_prepared_while_a_run_trains(
    storage: Storage, valkey: Valkey, source: Path
) -> None:
    async def scenario() -> None:
        async with running_worker(storage, valkey) as worker:
            await enqueue(valkey, make_command(storage, **ENDLESS))
            await wait_until(lambda: steps(valkey) > 2)
            await enqueue_preparation(valkey, source)
            await wait_until(lambda: is_prepared(storage, "me/mine"))
            assert is_alive(child_pid(worker)) and not ends(valkey)
            ask_cancel(valkey)
            await wait_until(lambda: nothing_is_queued(valkey))

    asyncio.run(scenario())


def test_a_preparation_that_waits_among_the_runs_is_done_too(
    storage: Storage, valkey: Valkey, source: Path
) -> None:
    """Where an older gateway queued it."""

    async def scenario() -> None:
        async with connected(valkey) as pool:
            await pool.enqueue_job(
                PREPARE_BASE_MODEL,
                {"model_id": "me/mine", "folder": str(source)},
                _job_id="prepare:mine:1",
                _queue_name=QUEUE_NAME,
            )
        async with running_worker(storage, valkey):
            await wait_until(lambda: is_prepared(storage, "me/mine"))
            await wait_until(lambda: nothing_is_queued(valkey))

    asyncio.run(scenario())
    assert manifest_problem(storage.base_model("me/mine")) is None


def test_a_run_on_a_model_that_nobody_prepared_takes_it_from_its_folder(
    storage: Storage, valkey: Valkey, source: Path
) -> None:
    command = make_command(storage, base_model="me/mine", max_steps=2)
    command = command.model_copy(update={"base_model_folder": source})

    async def scenario() -> None:
        async with running_worker(storage, valkey):
            await enqueue(valkey, command)
            await wait_until(lambda: bool(ends(valkey)))

    asyncio.run(scenario())
    assert [end.status for end in ends(valkey)] == ["succeeded"]
