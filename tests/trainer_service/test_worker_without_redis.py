"""A worker whose Redis is emptied or away while it trains."""

import asyncio

from shared.storage import Storage
from tests.trainer_service.runs import (
    make_command,
    payloads,
    stream_events,
    wait_until,
)
from tests.trainer_service.workers import (
    ENDLESS,
    ask_cancel,
    child_pid,
    complete,
    ends,
    enqueue,
    is_alive,
    running_worker,
    steps,
)
from tests.valkey import Valkey


def test_events_come_again_after_redis_was_emptied(storage: Storage, valkey: Valkey) -> None:
    async def scenario() -> None:
        async with running_worker(storage, valkey):
            await enqueue(valkey, make_command(storage, **ENDLESS))
            await wait_until(lambda: len(payloads(stream_events(valkey), "heartbeat")) > 2)
            valkey.flush()
            await wait_until(lambda: complete(stream_events(valkey)), seconds=10)
            ask_cancel(valkey)
            await wait_until(lambda: bool(ends(valkey)))

    asyncio.run(scenario())
    assert complete(stream_events(valkey))
    assert [end.status for end in ends(valkey)] == ["cancelled"]


def test_training_goes_on_while_redis_is_away(storage: Storage, valkey: Valkey) -> None:
    async def scenario() -> None:
        async with running_worker(storage, valkey) as worker:
            await enqueue(valkey, make_command(storage, **ENDLESS))
            await wait_until(lambda: steps(valkey) > 2)
            pid = child_pid(worker)
            valkey.stop()
            file = storage.run_events("run_a")
            size = file.stat().st_size
            await wait_until(lambda: file.stat().st_size > size + 2000)
            valkey.start()
            await wait_until(lambda: steps(valkey) > 5, seconds=20)
            assert is_alive(pid)
            ask_cancel(valkey)
            await wait_until(lambda: bool(ends(valkey)), seconds=20)
            # The worker listens again, with the device free.
            await wait_until(lambda: worker.listening, seconds=20)
            await enqueue(valkey, make_command(storage, run_id="run_b", max_steps=2))
            await wait_until(lambda: len(ends(valkey)) == 2)

    asyncio.run(scenario())
    assert [end.status for end in ends(valkey)] == ["cancelled", "succeeded"]
