"""What the tests on a GPU share: its facts, and a data folder. Without a GPU they are skipped."""

from pathlib import Path

import pytest
import torch

from shared.storage import Storage
from tests.trainer_service.tiny import prepare_tiny_model
from trainer_service.hardware import Device, find_device


@pytest.fixture(autouse=True)
def gpu() -> Device:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no NVIDIA GPU here: run `make gpu-test` on a machine with one")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return find_device()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A data folder in which the tiny model is prepared."""
    storage = Storage(tmp_path / "data")
    prepare_tiny_model(storage)
    return storage
