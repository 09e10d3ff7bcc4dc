"""A preparation in its child process, stopped before it could end."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from shared.model_library import is_prepared
from shared.storage import Storage
from tests.trainer_service.tiny import save_tiny_model
from trainer_service.child_process import start_module
from trainer_service.preparing import Preparation, PrepareCommand
from trainer_service.settings import TrainerSettings


@pytest.fixture
def preparation(storage: Storage, tmp_path: Path) -> Preparation:
    source = tmp_path / "mine"
    source.mkdir()
    save_tiny_model(source)
    settings = TrainerSettings(data_dir=storage.root)
    return Preparation(PrepareCommand(model_id="me/mine", folder=source), settings=settings)


def test_a_preparation_runs_to_its_end(storage: Storage, preparation: Preparation) -> None:
    asyncio.run(preparation.run())
    assert is_prepared(storage, "me/mine")


@pytest.mark.parametrize("moment", ["before", "while starting", "after"])
def test_a_stop_ends_a_preparation_whenever_it_comes(
    storage: Storage, preparation: Preparation, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    async def start_and_stop(*arguments: Any, **options: Any) -> Any:
        process = await start_module(*arguments, **options)
        if moment == "while starting":
            await preparation.stop()
        return process

    async def scenario() -> None:
        if moment == "before":
            await preparation.stop()
        task = asyncio.create_task(preparation.run())
        while moment == "after" and preparation.process is None:
            await asyncio.sleep(0.01)
        if moment == "after":
            await preparation.stop()
        await asyncio.wait_for(task, 20)

    monkeypatch.setattr("trainer_service.preparing.start_module", start_and_stop)
    asyncio.run(scenario())
    assert not is_prepared(storage, "me/mine")
    assert preparation.process is None or preparation.process.returncode is not None
