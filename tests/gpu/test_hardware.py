"""What workers, doctor and a waiting child have to do with the GPU that is there."""

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from gateway.doctor import machine
from trainer_service import announcing
from trainer_service.child_process import child_environment
from trainer_service.hardware import Device, choose_precision, has_gpu

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
    """A context alone takes half a gigabyte, and there may be several workers."""
    program = "import json, torch, trainer_service.finetune, trainer_service.child; "
    program += "print(json.dumps({'touched': torch.cuda.is_initialized()}))"
    assert said_by("-c", program) == {"touched": False}
