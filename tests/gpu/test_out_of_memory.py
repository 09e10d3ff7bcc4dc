"""A run that is too large for the GPU ends with a sentence, and leaves the GPU to the next one."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from shared.datasets import Record
from shared.run_events import Finished
from shared.runs import DatasetRef, RunCommand
from shared.storage import Storage
from tests.trainer_service.families import prepare_family
from tests.trainer_service.runs import quick_settings, small_records, small_spec, write_dataset
from tests.valkey import Valkey, running_valkey
from trainer_service import exit_codes
from trainer_service.child_process import child_environment
from trainer_service.outcomes import SENTENCES
from trainer_service.supervisor import Supervisor

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

SENTENCE = SENTENCES[exit_codes.DEVICE_OUT_OF_MEMORY]
# T5 writes its scores down: of one layer these are 131 GB in bf16, more than any GPU has today.
ROWS, SOURCE = 64, 16_000
LARGE = {
    "base_model": "tests/t5",
    "max_steps": 2,
    "per_device_train_batch_size": ROWS,
    "max_length": 20_000,
    "validation_split": 0,
}


def large_records() -> list[Record]:
    return [Record.from_pair(f"{row} {'x' * SOURCE}", "y") for row in range(ROWS)]


async def supervised(
    storage: Storage, valkey: Valkey, run_id: str, dataset: DatasetRef, **spec: object
) -> Finished:
    settings = quick_settings(storage, valkey)
    redis: Redis = Redis.from_url(settings.redis_url, socket_timeout=5)
    command = RunCommand(run_id=run_id, attempt=1, spec=small_spec(**spec), datasets=(dataset,))
    try:
        return await Supervisor(command, settings=settings, redis=redis).run()
    finally:
        await redis.aclose()


def test_the_run_fails_once_and_the_next_one_trains(storage: Storage, tmp_path: Path) -> None:
    prepare_family(storage, "t5")
    large = write_dataset(storage, "ds_large", large_records())
    small = write_dataset(storage, "ds_small", small_records())

    async def scenario(valkey: Valkey) -> tuple[Finished, Finished]:
        failed = await supervised(storage, valkey, "run_large", large, **LARGE)
        return failed, await supervised(storage, valkey, "run_small", small, max_steps=2)

    with running_valkey(tmp_path) as valkey:
        failed, succeeded = asyncio.run(scenario(valkey))
    assert (failed.status, failed.code, failed.retry) == ("failed", "gpu_oom", False)
    assert failed.message == SENTENCE
    assert succeeded.status == "succeeded"


def test_the_shell_user_reads_the_same_sentence(storage: Storage, tmp_path: Path) -> None:
    prepare_family(storage, "t5")
    lines = [record.model_dump_json() + "\n" for record in large_records()]
    (tmp_path / "pairs.jsonl").write_text("".join(lines))
    spec = {"dataset": "pairs.jsonl", "output_dir": "out"}
    (tmp_path / "spec.json").write_text(json.dumps(LARGE | spec))
    ended = subprocess.run(
        (sys.executable, "-m", "trainer_service.finetune", str(tmp_path / "spec.json")),
        env=child_environment(os.environ) | {"GENPLAT_DATA_DIR": str(storage.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == exit_codes.DEVICE_OUT_OF_MEMORY
    assert SENTENCE in ended.stderr and "Traceback" not in ended.stderr
