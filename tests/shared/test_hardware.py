"""What workers say of their devices, over a real Valkey."""

from pathlib import Path

from redis.asyncio import Redis

from shared.hardware import HardwareFacts, announce, read_all
from tests.gateway.parts import asynchronous
from tests.valkey import running_valkey


def facts(worker: str, memory_bytes: int = 10**9) -> HardwareFacts:
    return HardwareFacts(
        worker=worker,
        kind="cpu",
        name="A",
        device="cpu (A)",
        memory_bytes=memory_bytes,
        precision="fp32",
    )


@asynchronous
async def test_workers_are_heard_of_until_they_fall_silent(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as valkey:
        redis = Redis.from_url(valkey.url)
        try:
            assert await read_all(redis) == []
            await announce(redis, facts("b"), seconds=60)
            await announce(redis, facts("a"), seconds=60)
            await announce(redis, facts("a", 5), seconds=60)
            await redis.set("genplat:hardware:c", b"no facts")
            assert await read_all(redis) == [facts("a", 5), facts("b")]
            await redis.pexpire("genplat:hardware:b", 1)
            while await redis.exists("genplat:hardware:b"):
                pass
            assert await read_all(redis) == [facts("a", 5)]
        finally:
            await redis.aclose()
