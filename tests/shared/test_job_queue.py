"""The command queue against a real Valkey."""

import asyncio
from collections.abc import Iterator

import pytest
from redis.exceptions import RedisError

from shared import job_queue
from shared.job_queue import QUEUE_NAME, ArqQueue
from tests.valkey import Valkey, free_port, running_valkey


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


def test_a_job_is_there_once_until_it_is_gone(valkey: Valkey) -> None:
    async def scenario() -> None:
        redis = await job_queue.connect(valkey.url)
        queue = ArqQueue(redis)
        assert await queue.enqueue("train_run", "run_a:1", {"a": 1})
        assert not await queue.enqueue("train_run", "run_a:1", {"a": 2})
        assert await queue.holds("run_a:1") and not await queue.taken("run_a:1")
        assert not await queue.holds("run_a:2")
        raw = await redis.get("arq:job:run_a:1")
        assert raw is not None and job_queue.deserialize_job(raw)["a"] == [{"a": 1}]
        await queue.remove("run_a:1")
        assert not await queue.holds("run_a:1")
        assert await redis.zcard(QUEUE_NAME) == 0
        # What a worker that is killed leaves behind: the job counts as held, and as taken.
        await redis.set("arq:in-progress:run_a:1", b"1")
        assert await queue.holds("run_a:1") and await queue.taken("run_a:1")
        await redis.aclose(close_connection_pool=True)

    asyncio.run(scenario())


def test_a_client_waits_for_its_first_command() -> None:
    async def scenario() -> None:
        redis = job_queue.client(f"redis://127.0.0.1:{free_port()}/0")
        with pytest.raises((RedisError, OSError)):
            await ArqQueue(redis).enqueue("train_run", "run_a:1", {})
        await redis.aclose(close_connection_pool=True)

    asyncio.run(scenario())
