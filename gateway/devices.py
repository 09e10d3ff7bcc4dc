"""What there is to train on, as the workers say it, and which models fit there."""

import asyncio
import logging
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.hardware import HardwareFacts, read_all
from shared.hyperparameters import resolve_hyperparameters
from shared.memory import estimate, fits, model_of
from shared.model_library import LibraryEntry
from shared.runs import FineTuneSpec, Method

log = logging.getLogger(__name__)

REDIS_SECONDS = 2.0
METHODS: tuple[Method, ...] = ("full", "lora", "qlora")
# Rows of the dataset that "default hyperparameters" are meant for.
USUAL_ROWS = 1_000


class MemoryNeed(NamedTuple):
    """Bytes that a method takes with default hyperparameters at its peak. ``fits`` None: no worker
    has said what it has."""

    method: Method
    bytes: int
    fits: bool | None


async def largest_device(redis: Redis) -> HardwareFacts | None:
    """The worker with the most memory; None while none is heard of."""
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            found = await read_all(redis)
    except (RedisError, OSError) as error:
        log.warning("The workers' devices are not known: %s", error)
        return None
    return max(found, key=lambda facts: facts.memory_bytes, default=None)


def memory_needs(entry: LibraryEntry, device: HardwareFacts | None) -> list[MemoryNeed]:
    """What each method takes; empty for a model whose shape is not known."""
    model = model_of(entry)
    if model is None:
        return []
    needs = []
    for method in METHODS:
        numbers = resolve_hyperparameters(
            FineTuneSpec(base_model=entry.id, dataset_id="any", method=method),
            examples=USUAL_ROWS,
            context_length=entry.context_length,
            family=entry.family,
            parameters=entry.parameters,
        )
        need = estimate(
            model,
            method,
            numbers,
            device=device.kind if device else "cpu",
            precision=device.precision if device else "fp32",
        )
        room = fits(need, device.memory_bytes) if device else None
        needs.append(MemoryNeed(method, need.total, room))
    return needs
