"""Fixtures of the trainer's tests: a data folder with a tiny base model, and a real Valkey."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from shared.storage import Storage
from tests.trainer_service.tiny import prepare_tiny_model, save_tiny_model
from tests.valkey import Valkey, running_valkey


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models this small gain nothing from threads, and lose much where cores are shared."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A data folder in which the tiny model is prepared."""
    storage = Storage(tmp_path / "data")
    prepare_tiny_model(storage)
    return storage


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model folder that nobody has prepared."""
    folder = tmp_path / "source"
    folder.mkdir()
    save_tiny_model(folder)
    return folder


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with running_valkey(tmp_path) as server:
        yield server
