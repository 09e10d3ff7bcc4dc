"""Says in Redis what this worker computes on, again and again; loads no torch itself."""

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
from trainer_service.hardware import Device, choose_precision, find_cpu, has_gpu

log = logging.getLogger(__name__)

# Said anew this often, forgotten after three times as long.
EVERY_SECONDS = 20.0
Describe = Callable[[], Awaitable[dict[str, Any]]]


async def announce_hardware(redis: Redis, worker: str, describe: Describe) -> None:
    """Until cancelled; a Redis that is away hears of it later."""
    facts = await find_facts(worker, describe)
    while facts is not None:
        with contextlib.suppress(OSError, RedisError):
            await announce(redis, facts, seconds=3 * EVERY_SECONDS)
        await asyncio.sleep(EVERY_SECONDS)


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
