"""The command queue. ARQ is behind two methods here and in the trainer's worker, nowhere else."""

import json
from datetime import UTC, datetime
from typing import Any, Protocol

from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from redis.asyncio import ConnectionPool, Redis

QUEUE_NAME = "genplat:queue"
# Apart from the runs: one that trains for days must not keep a base model from being prepared.
PREPARE_QUEUE_NAME = "genplat:queue:prepare"
TRAIN_RUN = "train_run"
PREPARE_BASE_MODEL = "prepare_base_model"
_LISTENERS = "genplat:listeners"
_QUEUES = {TRAIN_RUN: QUEUE_NAME, PREPARE_BASE_MODEL: PREPARE_QUEUE_NAME}

# ARQ drops a job a day after it was enqueued unless told otherwise; a queue may be longer.
EXPIRES_SECONDS = 365 * 24 * 3600


class JobQueue(Protocol):
    """What the gateway needs of a queue."""

    async def enqueue(
        self, function: str, job_id: str, payload: dict[str, Any], *, rank: int | None = None
    ) -> bool:
        """Add a job; False where one of that id is already there. Jobs with the smallest ``rank``
        are taken first, those without one after all that have one, in the order they came."""

    async def holds(self, job_id: str) -> bool:
        """Whether the job waits or is being worked on."""

    async def taken(self, job_id: str) -> bool:
        """Whether a worker has the job, or had it until it was killed a moment ago."""

    async def remove(self, job_id: str) -> None:
        """Take a job that waits out of its queue."""

    async def listeners(self) -> int:
        """How many workers say that they take runs."""


def serialize_job(job: dict[str, Any]) -> bytes:
    """JSON instead of ARQ's pickle, which runs code for whoever can write to Redis."""
    return json.dumps(job, default=str).encode()


def deserialize_job(raw: bytes) -> dict[str, Any]:
    job: dict[str, Any] = json.loads(raw)
    return job


def redis_settings(redis_url: str) -> RedisSettings:
    settings = RedisSettings.from_dsn(redis_url)
    settings.conn_retries = 0
    return settings


async def connect(redis_url: str) -> ArqRedis:
    """A connection pool that speaks ARQ with JSON jobs."""
    return await create_pool(
        redis_settings(redis_url),
        job_serializer=serialize_job,
        job_deserializer=deserialize_job,
        default_queue_name=QUEUE_NAME,
    )


def client(redis_url: str) -> ArqRedis:
    """Like `connect`, but nothing is sent before the first command: Redis may come up later, and
    one that accepts and never answers ends in an error instead of a hang."""
    pool = ConnectionPool.from_url(redis_url, socket_connect_timeout=2, socket_timeout=5)
    return ArqRedis(
        pool_or_conn=pool,
        job_serializer=serialize_job,
        job_deserializer=deserialize_job,
        default_queue_name=QUEUE_NAME,
    )


async def keep_taken(redis: Redis, job_id: str, *, seconds: float) -> None:
    """Say that a worker has the job, for the next ``seconds``. The worker says so again in time.

    ARQ itself says it once, for as long as the longest job may take: a job whose worker was killed
    would count as taken for years.
    """
    async with redis.pipeline(transaction=True) as transaction:
        # Also where the key is gone: it expires under a worker that was suspended.
        transaction.set(in_progress_key_prefix + job_id, b"1", px=max(1, int(seconds * 1000)))
        # ARQ forgets after a day that a job was tried, and would try a longer one again.
        transaction.persist(retry_key_prefix + job_id)
        await transaction.execute()


async def say_listening(redis: Redis, worker: str, *, seconds: float) -> None:
    """Say that ``worker`` takes runs, for the next ``seconds`` of Redis' own clock."""
    now, _ = await redis.time()
    await redis.zadd(_LISTENERS, {worker: now + seconds})


async def say_gone(redis: Redis, worker: str) -> None:
    await redis.zrem(_LISTENERS, worker)


class ArqQueue:
    """The `JobQueue` over Redis."""

    def __init__(self, redis: ArqRedis) -> None:
        self.redis = redis

    async def enqueue(
        self, function: str, job_id: str, payload: dict[str, Any], *, rank: int | None = None
    ) -> bool:
        job = await self.redis.enqueue_job(
            function,
            payload,
            _job_id=job_id,
            _queue_name=_QUEUES[function],
            _defer_until=None if rank is None else _score(rank),
            _expires=EXPIRES_SECONDS,
        )
        return job is not None

    async def holds(self, job_id: str) -> bool:
        keys = (job_key_prefix + job_id, in_progress_key_prefix + job_id)
        return bool(await self.redis.exists(*keys))

    async def taken(self, job_id: str) -> bool:
        return bool(await self.redis.exists(in_progress_key_prefix + job_id))

    async def remove(self, job_id: str) -> None:
        async with self.redis.pipeline(transaction=True) as transaction:
            for name in _QUEUES.values():
                transaction.zrem(name, job_id)
            transaction.delete(job_key_prefix + job_id, retry_key_prefix + job_id)
            await transaction.execute()

    async def listeners(self) -> int:
        now, _ = await self.redis.time()
        await self.redis.zremrangebyscore(_LISTENERS, "-inf", now)
        return int(await self.redis.zcard(_LISTENERS))


def _score(rank: int) -> datetime:
    """ARQ takes jobs by the time that they wait for: ranks are times long ago, in milliseconds.
    (It takes a score of 0 for a job that is not there.)"""
    return datetime.fromtimestamp(max(1, rank) / 1000, UTC)
