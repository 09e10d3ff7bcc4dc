"""What half-done writes left behind goes; what others may own stays."""

import os
from pathlib import Path

from gateway.reconciler import (
    Reconciler,
    remove_stale,
)
from gateway.settings import GatewaySettings
from shared.storage import Storage
from tests.gateway.parts import (
    asynchronous,
    gateway_services,
)


@asynchronous
async def test_another_database_takes_nothing_from_the_data_folder(
    settings: GatewaySettings,
) -> None:
    """A setting that was forgotten, or a backup from yesterday, must not cost a model."""
    async with gateway_services(settings) as services:
        storage = services.storage
        kept = [
            storage.dataset_source("ds_unknown"),
            storage.run_result("run_unknown") / "adapter_model.safetensors",
            storage.diagram("dg_unknown", "svg"),
        ]
        for path in kept:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
            os.utime(path, (1, 1))
            os.utime(path.parent, (1, 1))
        await Reconciler(services).tidy()
        assert all(path.exists() for path in kept)


def test_left_overs_go_after_an_hour(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    old = [
        storage.temporary() / "upload",
        storage.root / "datasets" / "ds_a.x.tmp",
        storage.run("run_a") / "result.y.tmp",
    ]
    busy = storage.run("run_b") / "result.z.tmp"
    kept = storage.run("run_a") / "checkpoints" / "step-1"
    for folder in (*old, busy, kept):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
        for path in (folder / "file", folder):
            os.utime(path, (1, 1))
    (busy / "more").write_text("x")
    os.utime(busy, (1, 1))
    remove_stale(storage)
    assert [folder.exists() for folder in (*old, busy, kept)] == [False, False, False, True, True]
