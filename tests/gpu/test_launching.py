"""Several devices as far as one GPU goes: torchrun, NCCL, FSDP2; and a second one is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from shared.storage import Storage, manifest_problem
from tests.gpu.test_training import LOSS_WITHIN
from tests.trainer_service.runs import small_records
from tests.trainer_service.tiny import TINY_MODEL
from trainer_service import exit_codes
from trainer_service.child_process import child_environment
from trainer_service.launching import too_many

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]


def run(storage: Storage, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, *command),
        env=child_environment(os.environ) | {"GENPLAT_DATA_DIR": str(storage.root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nccl_and_a_sharded_model_on_one_gpu(storage: Storage) -> None:
    launched = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1")
    ended = run(storage, *launched, "--module", "tests.gpu.world_of_one", str(storage.root))
    assert ended.returncode == 0, ended.stderr[-4000:]
    found: dict[str, Any] = json.loads((storage.root / "found.json").read_text())
    assert found["exchanged"] == [12.0, 5.0, 1.0]
    for method, file in (("lora", "adapter_model"), ("full", "model")):
        whole, sharded = found[f"{method}-whole"], found[f"{method}-sharded"]
        assert (whole["divided"], sharded["divided"]) == (False, True)
        assert sharded["devices"] == whole["devices"] == ["cuda"]
        assert len(sharded["losses"]) == 6 and sharded["samples"] == whole["samples"] > 0
        assert sharded["losses"] == pytest.approx(whole["losses"], rel=LOSS_WITHIN)
        weights = [
            load_file(storage.run_result(f"{method}-{way}") / f"{file}.safetensors")
            for way in ("whole", "sharded")
        ]
        assert weights[0].keys() == weights[1].keys()
        assert all(value.dtype == weights[0][name].dtype for name, value in weights[1].items())


def test_torchrun_trains_on_the_gpu(storage: Storage, tmp_path: Path) -> None:
    lines = [record.model_dump_json() + "\n" for record in small_records(10)]
    (tmp_path / "pairs.jsonl").write_text("".join(lines))
    spec: dict[str, Any] = {"base_model": TINY_MODEL, "dataset": "pairs.jsonl", "max_steps": 3}
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec | {"output_dir": "out"}))
    launch = "from trainer_service.launching import launch; import sys; "
    launch += "sys.exit(launch('trainer_service.shell_rank', sys.argv[1], devices=1))"
    ended = run(storage, "-c", launch, str(file))
    assert ended.returncode == exit_codes.OK, ended.stderr[-4000:]
    assert "step 3/3" in ended.stdout
    assert manifest_problem(tmp_path / "out" / "result") is None


def test_more_gpus_than_there_are_are_refused() -> None:
    count = torch.cuda.device_count()
    assert too_many(count) is None
    assert too_many(count + 1) == (
        f"devices: {count + 1} are asked for, and this worker has {count} GPU"
        f"{'' if count == 1 else 's'}."
    )
