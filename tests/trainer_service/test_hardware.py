"""What a worker computes on: limits of containers, and that it says so in Redis."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import Unavailable
from shared.hardware import read_all
from tests.trainer_service.runs import environment_of
from tests.valkey import Valkey
from trainer_service import announcing, hardware
from trainer_service.child_process import child_environment, let_gpu_memory_grow


@pytest.mark.parametrize(
    ("text", "limits"),
    [("4000000000\n", [4_000_000_000]), ("max\n", []), ("", []), ("-1", []), ("0", [])],
)
def test_a_containers_limit_is_all_the_memory_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, limits: list[int]
) -> None:
    (tmp_path / "memory.max").write_text(text)
    monkeypatch.setattr(hardware, "_LIMIT_FILES", (tmp_path / "memory.max", tmp_path / "none"))
    assert hardware._container_limits() == limits
    machine = hardware.find_cpu().memory_bytes
    assert machine == limits[0] if limits else machine > 2**28


async def says(facts: dict[str, Any] | None) -> dict[str, Any]:
    if facts is None:
        raise Unavailable("torch cannot be loaded here.")
    return facts


def test_a_cpu_is_known_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "has_gpu", lambda: False)
    found = asyncio.run(announcing.find_facts("w", lambda: says(None)))
    assert found is not None and (found.worker, found.kind, found.precision) == ("w", "cpu", "fp32")
    assert found.memory_bytes == hardware.find_cpu().memory_bytes


def test_where_there_may_be_a_gpu_a_child_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "has_gpu", lambda: True)
    told = {
        "kind": "cuda", "name": "T4", "device": "cuda:0 (T4)", "memory_bytes": 16, "bf16": False,
        "precision": "fp16", "cores": 2, "torch": "2",
    }  # fmt: skip
    found = asyncio.run(announcing.find_facts("w", lambda: says(told)))
    assert found is not None and (found.kind, found.precision) == ("cuda", "fp16")
    assert asyncio.run(announcing.find_facts("w", lambda: says(None))) is None
    assert asyncio.run(announcing.find_facts("w", lambda: says({"kind": "abacus"}))) is None


def test_what_the_child_prints_can_be_announced() -> None:
    """Torch is asked in a process of its own, as the service does."""
    printed = subprocess.run(
        [sys.executable, "-m", "trainer_service.hardware"],
        env=environment_of({}),
        capture_output=True,
        check=True,
    ).stdout
    found = asyncio.run(announcing.find_facts("w", lambda: says(json.loads(printed))))
    assert found is not None and found.memory_bytes > 2**28


def test_a_worker_says_what_it_has_again_and_again(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr(announcing, "has_gpu", lambda: False)

    async def announce_through_a_restart() -> list[str]:
        redis = Redis.from_url(valkey.url, socket_timeout=1, socket_connect_timeout=1)
        task = asyncio.create_task(announcing.announce_hardware(redis, "w", lambda: says(None)))
        await heard(redis)
        valkey.stop()
        await asyncio.sleep(0.2)
        valkey.start()
        again = await heard(redis)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await redis.aclose()
        return again

    async def heard(redis: Redis) -> list[str]:
        while True:
            with contextlib.suppress(OSError, RedisError):
                if workers := [facts.worker for facts in await read_all(redis)]:
                    return workers
            await asyncio.sleep(0.02)

    assert asyncio.run(asyncio.wait_for(announce_through_a_restart(), 60)) == ["w"]


def printed_by(program: str) -> list[int]:
    """Numbers that a process of its own prints after it has set its allocator."""
    begin = (
        "from resource import RUSAGE_SELF, getrusage\n"
        "from trainer_service.hardware import keep_small_blocks\n"
        "keep_small_blocks()\n"
    )
    command = [sys.executable, "-c", begin + program]
    ended = subprocess.run(command, env=environment_of({}), capture_output=True, check=True)
    return [int(word) for word in ended.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_large_blocks_go_back_when_they_are_free() -> None:
    """Blocks of ever other sizes, of which none is left in the end."""
    (kilobytes,) = printed_by(
        "for round in range(20):\n"
        "    blocks = [bytearray(2**20 * (9 + (round * 7 + n) % 9)) for n in range(20)]\n"
        "    del blocks[::2]\n"
        "del blocks\n"
        "text = open('/proc/self/status').read()\n"
        "print(int(text.partition('VmRSS:')[2].split()[0]))\n"
    )
    assert kilobytes < 60_000


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_smaller_blocks_are_used_again() -> None:
    """Once touched, their pages are not asked for again: a block of four MiB has a thousand."""
    first, *others = printed_by(
        "for round in range(4):\n"
        "    before = getrusage(RUSAGE_SELF).ru_minflt\n"
        "    blocks = [bytearray(2**22) for n in range(20)]\n"
        "    del blocks\n"
        "    print(getrusage(RUSAGE_SELF).ru_minflt - before)\n"
    )
    assert first > 10_000 and max(others) < 1_000


def test_memory_on_a_gpu_may_grow_unless_somebody_has_set_it_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    let_gpu_memory_grow()
    assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert child_environment({})["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:64")
    let_gpu_memory_grow()
    assert os.environ["PYTORCH_ALLOC_CONF"] == "max_split_size_mb:64"
    assert child_environment(os.environ)["PYTORCH_ALLOC_CONF"] == "max_split_size_mb:64"


def test_attention_on_gpus_takes_rows_of_any_length() -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        hardware.take_any_length()
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
