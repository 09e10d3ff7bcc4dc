"""Says in Redis what this worker computes on, and that it listens, again and again; loads no torch
itself."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import Unavailable
from shared.hardware import HardwareFacts, announce
from shared.job_queue import say_listening
from trainer_service.hardware import Device, choose_precision, find_cpu, has_gpu

log = logging.getLogger(__name__)

# Said anew this often, forgotten after three times as long.
EVERY_SECONDS = 20.0
# How soon it is told that somebody has begun to listen.
SHORT_SECONDS = 0.1
Describe = Callable[[], Awaitable[dict[str, Any]]]


async def announce_hardware(redis: Redis, worker: str, describe: Describe) -> None:
    """Until cancelled; a Redis that is away hears of it later."""
    facts = await find_facts(worker, describe)
    while facts is not None:
        with contextlib.suppress(OSError, RedisError):
            await announce(redis, facts, seconds=3 * EVERY_SECONDS)
        await asyncio.sleep(EVERY_SECONDS)


async def keep_telling(
    redis: Redis, worker: str, *, every: float, is_so: Callable[[], bool]
) -> None:
    """Say that ``worker`` takes runs while it ``is_so``, each ``every`` seconds, until cancelled:
    a gateway tells those who wait for it."""
    told = True
    while True:
        listening = is_so()
        try:
            if listening:
                await say_listening(redis, worker, seconds=3 * every)
                told = True
        except (OSError, RedisError) as error:
            if told:
                log.warning("Those who wait cannot be told that runs are taken: %s", error)
            told = False
        await asyncio.sleep(every if listening else min(every, SHORT_SECONDS))


async def find_facts(worker: str, describe: Describe) -> HardwareFacts | None:
    """A CPU is known without torch; where there may be a GPU, ``describe`` asks it in a child."""
    if not has_gpu():
        return facts_of(find_cpu(), worker)
    try:
        return HardwareFacts.model_validate(await describe() | {"worker": worker})
    except (Unavailable, ValidationError) as error:
        log.warning("What this worker computes on is not known: %s", error)
        return None


def facts_of(device: Device, worker: str) -> HardwareFacts:
    return HardwareFacts(
        worker=worker,
        kind=device.kind,
        name=device.name,
        device=device.label,
        memory_bytes=device.memory_bytes,
        precision=choose_precision(device),
    )
