"""The command queue against a real Valkey."""

import asyncio
from collections.abc import Iterator

import pytest
from redis.exceptions import RedisError

from shared import job_queue
from shared.job_queue import (
    PREPARE_BASE_MODEL,
    PREPARE_QUEUE_NAME,
    QUEUE_NAME,
    TRAIN_RUN,
    ArqQueue,
    keep_taken,
)
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
        # What a worker that is killed leaves behind for a while: held, and taken.
        await redis.set("arq:in-progress:run_a:1", b"1")
        assert await queue.holds("run_a:1") and await queue.taken("run_a:1")
        await redis.aclose(close_connection_pool=True)

    asyncio.run(scenario())


def test_ranks_are_exact_scores(valkey: Valkey) -> None:
    async def scenario() -> None:
        redis = await job_queue.connect(valkey.url)
        ranks = [0, 1, 999, 1_000_001, 1_000_003, 7_000_000_123]
        for rank in ranks:
            await ArqQueue(redis).enqueue(TRAIN_RUN, f"run_{rank}:1", {}, rank=rank)
        found = await redis.zrange(QUEUE_NAME, 0, -1, withscores=True)
        assert [score for _, score in found] == [1, *ranks[1:]]
        await redis.flushall()
        await redis.aclose(close_connection_pool=True)

    asyncio.run(scenario())


def test_runs_and_preparations_wait_in_queues_of_their_own(valkey: Valkey) -> None:
    async def scenario() -> None:
        redis = await job_queue.connect(valkey.url)
        queue = ArqQueue(redis)
        waiting = (
            (TRAIN_RUN, "run_b:1", QUEUE_NAME),
            (PREPARE_BASE_MODEL, "p", PREPARE_QUEUE_NAME),
        )
        for function, job_id, _ in waiting:
            assert await queue.enqueue(function, job_id, {})
        for _, job_id, name in waiting:
            assert await redis.zrange(name, 0, -1) == [job_id.encode()]
            assert await queue.holds(job_id) and not await queue.taken(job_id)
            # What an interrupted worker counted must not count against the job when it comes again.
            await redis.set(f"arq:retry:{job_id}", 1)
            await queue.remove(job_id)
            assert not await queue.holds(job_id)
            assert await redis.zcard(name) == 0
            assert not await redis.exists(f"arq:retry:{job_id}")
        await redis.aclose(close_connection_pool=True)

    asyncio.run(scenario())


def test_a_job_counts_as_taken_for_as_long_as_its_worker_says(valkey: Valkey) -> None:
    async def scenario() -> None:
        redis = await job_queue.connect(valkey.url)
        queue = ArqQueue(redis)
        await redis.setex("arq:retry:run_c:1", 88400, 1)
        await keep_taken(redis, "run_c:1", seconds=0.3)
        assert await queue.taken("run_c:1")
        assert 0 < await redis.pttl("arq:in-progress:run_c:1") <= 300
        # However long the job takes, that it was tried is not forgotten.
        assert await redis.ttl("arq:retry:run_c:1") == -1
        await asyncio.sleep(0.35)
        assert not await queue.taken("run_c:1")
        await redis.aclose(close_connection_pool=True)

    asyncio.run(scenario())


def test_a_client_waits_for_its_first_command() -> None:
    async def scenario() -> None:
        redis = job_queue.client(f"redis://127.0.0.1:{free_port()}/0")
        with pytest.raises((RedisError, OSError)):
            await ArqQueue(redis).enqueue("train_run", "run_a:1", {})
        await redis.aclose(close_connection_pool=True)

    asyncio.run(scenario())
