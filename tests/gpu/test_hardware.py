"""What workers, doctor and a waiting child have to do with the GPU that is there."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from gateway.doctor import machine
from tests.trainer_service.runs import wait_for
from trainer_service import announcing
from trainer_service.child_process import child_environment
from trainer_service.hardware import Device, choose_precision, has_gpu
from trainer_service.spare import WAIT

pytestmark = pytest.mark.gpu


def said_by(*command: str) -> dict[str, Any]:
    ended = subprocess.run(
        (sys.executable, *command),
        env=child_environment(os.environ),
        capture_output=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_a_worker_announces_the_gpu(gpu: Device) -> None:
    assert has_gpu()

    async def asked() -> dict[str, Any]:
        return said_by("-m", "trainer_service.hardware")

    facts = asyncio.run(announcing.find_facts("w", asked))
    assert facts is not None and facts.kind == gpu.kind == "cuda"
    assert facts.name == torch.cuda.get_device_name()
    assert facts.memory_bytes == torch.cuda.mem_get_info()[1]
    assert facts.precision == choose_precision(gpu)


def test_doctor_names_it() -> None:
    found = machine.devices()
    assert found.state == "ok" and torch.cuda.get_device_name() in found.found


def test_a_child_that_waits_holds_none_of_its_memory() -> None:
    """With all libraries loaded: a context alone takes half a gigabyte. (Needs a quiet GPU.)"""
    child = (sys.executable, "-m", "trainer_service.child", WAIT, str(os.getpid()))
    before = torch.cuda.mem_get_info()[0]
    waiting = subprocess.Popen(
        child, env=child_environment(os.environ), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: loads_bitsandbytes(waiting.pid))
        time.sleep(2)
        assert waiting.poll() is None
        assert before - torch.cuda.mem_get_info()[0] < 50_000_000
    finally:
        waiting.kill()
        waiting.wait()


def loads_bitsandbytes(pid: int) -> bool:
    """The last library that comes, and the one that looks at GPUs."""
    return "libbitsandbytes" in Path(f"/proc/{pid}/maps").read_text()
