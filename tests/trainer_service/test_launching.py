"""Of several processes on a host each has its own GPU, chosen before anything looks at GPUs."""

import os
import subprocess
import sys

import pytest

from trainer_service.child_process import child_environment
from trainer_service.launching import local_place

PROGRAM = """
import sys, {module}
print(*(name for name in ("torch", "transformers", "peft", "bitsandbytes") if name in sys.modules))
"""


@pytest.mark.parametrize("module", ["trainer_service.child", "trainer_service.shell_rank"])
def test_what_looks_at_gpus_is_loaded_later(module: str) -> None:
    """CUDA hears only once which GPUs are to be seen."""
    said = subprocess.run(
        (sys.executable, "-c", PROGRAM.format(module=module)),
        env=child_environment(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == []


@pytest.mark.parametrize(
    ("given", "rank", "sees"),
    [(None, 1, "1"), ("4,7", 1, "7"), ("4,7", 0, "4"), ("", 1, ""), ("4", 1, "")],
)
def test_each_sees_its_own_alone(
    monkeypatch: pytest.MonkeyPatch, given: str | None, rank: int, sees: str
) -> None:
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    if given is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert local_place() == (rank, 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == sees


def test_one_alone_sees_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert local_place() == (0, 1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"
