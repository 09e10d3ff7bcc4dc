"""Fixtures of the inference tests: a tiny base model, random adapters over it, a running engine."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from inference_service.engine.base_model import BaseModel, load_base_model
from inference_service.engine.engine import Engine
from inference_service.engine.lora import Adapter, load_adapter
from shared.storage import Storage
from tests.inference_service.adapters import save_run_result
from tests.inference_service.tiny_families import TINY_BYT5, prepare_family, save_whole_result
from tests.trainer_service.tiny import TINY_MODEL, prepare_tiny_model

ADAPTERS = {"run_a": (8, 1), "run_b": (4, 2)}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for all tests, so that a renderer process can serve more than one of them."""
    return "asyncio"


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A data folder with the tiny model and the results of two runs; no test changes it."""
    torch.set_num_threads(1)
    storage = Storage(tmp_path_factory.mktemp("data"))
    prepare_tiny_model(storage)
    for run_id, (rank, seed) in ADAPTERS.items():
        save_run_result(storage, run_id, rank=rank, seed=seed)
    return storage


@pytest.fixture(scope="session")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A data folder with a tiny ByT5 and what runs over it have made: an adapter, a whole model,
    and a checkpoint of each. No test changes it."""
    torch.set_num_threads(1)
    storage = Storage(tmp_path_factory.mktemp("paired"))
    prepare_family(storage, TINY_BYT5, "byt5")
    save_run_result(storage, "run_lora", model_id=TINY_BYT5)
    shutil.copytree(storage.run_result("run_lora"), storage.run_deployed("run_lora", 10))
    save_run_result(storage, "run_lora", model_id=TINY_BYT5, seed=2)
    save_whole_result(storage.run_result("run_full"), TINY_BYT5, "byt5", seed=3)
    save_whole_result(storage.run_deployed("run_full", 10), TINY_BYT5, "byt5", seed=4)
    return storage


@pytest.fixture(scope="session")
def byt5(paired: Storage) -> BaseModel:
    return load_base_model(paired.base_model(TINY_BYT5), TINY_BYT5, "fp32")


@pytest.fixture(scope="session")
def model_folder(storage: Storage) -> Path:
    return storage.base_model(TINY_MODEL)


@pytest.fixture(scope="session")
def base(model_folder: Path) -> BaseModel:
    return load_base_model(model_folder, TINY_MODEL, "fp32")


@pytest.fixture(scope="session")
def adapters(base: BaseModel, storage: Storage) -> dict[str, Adapter]:
    return {
        run_id: load_adapter(storage.run_result(run_id), base.projections) for run_id in ADAPTERS
    }


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(max_rows=8)
    engine.start()
    yield engine
    engine.close()
