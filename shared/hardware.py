"""What each worker computes on, as it says in Redis: kept as long as the worker says it again."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.asyncio import Redis

DeviceKind = Literal["cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16", "fp16"]
_PREFIX = "genplat:hardware:"
MOST_WORKERS = 1000


class HardwareFacts(BaseModel):
    """One worker's device. ``memory_bytes`` is all that the device has, or that the worker's
    container may use."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    worker: str = Field(max_length=200)
    kind: DeviceKind
    name: str = Field(max_length=200)
    device: str = Field(max_length=250, description='For people: "cpu (AMD EPYC)".')
    memory_bytes: int = Field(ge=0)
    precision: Precision


async def announce(redis: Redis, facts: HardwareFacts, *, seconds: float) -> None:
    """Say what a worker has, for the next ``seconds``."""
    key = f"{_PREFIX}{facts.worker}"
    await redis.set(key, facts.model_dump_json(), px=max(1, int(seconds * 1000)))


async def read_all(redis: Redis) -> list[HardwareFacts]:
    """The workers that were heard of lately, by name; what makes no sense is left out."""
    keys: list[Any] = [key async for key in redis.scan_iter(f"{_PREFIX}*", count=MOST_WORKERS)]
    if not keys:
        return []
    found = []
    for raw in await redis.mget(sorted(keys)[:MOST_WORKERS]):
        try:
            found.append(HardwareFacts.model_validate_json(raw or b""))
        except ValidationError:
            continue
    return found
