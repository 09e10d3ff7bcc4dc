"""Small datasets, commands and waiting, as the trainer's tests need them."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from shared.datasets import Record
from shared.event_stream import STREAM, parse
from shared.run_events import Payload, RunEvent
from shared.runs import DatasetRef, FineTuneSpec, RunCommand
from shared.storage import Storage, sha256_of
from tests.trainer_service.tiny import TINY_MODEL
from tests.valkey import Valkey
from trainer_service.job_files import Job, WeightedRecords
from trainer_service.settings import TrainerSettings


def small_records(count: int = 24) -> list[Record]:
    """Pairs of different lengths with a pattern that can be learned."""
    return [
        Record.from_pair(f"say {index} {'x' * (index % 7)}", f"it is {index}!")
        for index in range(count)
    ]


def write_dataset(
    storage: Storage, dataset_id: str = "ds_small", records: Sequence[Record] | None = None
) -> DatasetRef:
    """Store a dataset: the small one where no ``records`` are given."""
    path = storage.dataset_records(dataset_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = small_records() if records is None else records
    path.write_text("".join(record.model_dump_json() + "\n" for record in chosen))
    return DatasetRef(id=dataset_id, records_sha256=sha256_of(path))


def small_spec(**changes: Any) -> FineTuneSpec:
    numbers: dict[str, Any] = {
        "base_model": TINY_MODEL,
        "dataset_id": "ds_small",
        "max_steps": 12,
        "per_device_train_batch_size": 2,
        "eval_steps": 1000,
        "save_steps": 5,
        "lora_r": 4,
        "learning_rate": 5e-3,
        "validation_split": 0.2,
    }
    return FineTuneSpec.model_validate(numbers | changes)


def make_command(
    storage: Storage, run_id: str = "run_a", attempt: int = 1, **spec: Any
) -> RunCommand:
    return RunCommand(
        run_id=run_id,
        attempt=attempt,
        spec=small_spec(**spec),
        datasets=(write_dataset(storage),),
    )


def make_job(storage: Storage, name: str = "run_a", **spec: Any) -> Job:
    """A job without files of its own but the base model."""
    return Job(
        spec=small_spec(**spec),
        datasets=(WeightedRecords(small_records()),),
        validation=None,
        storage=storage,
        checkpoints=storage.run_checkpoints(name),
        result=storage.run_result(name),
        fingerprint="same",
    )


def quick_settings(storage: Storage, valkey: Valkey) -> TrainerSettings:
    return TrainerSettings.model_validate(quick_values(storage, valkey))


def quick_values(storage: Storage, valkey: Valkey) -> dict[str, Any]:
    return {
        "data_dir": storage.root,
        "redis_url": valkey.url,
        "internal_token": "secret-token",
        "heartbeat_seconds": 0.2,
        "run_lost_seconds": 3,
        "reconcile_seconds": 0.02,
        "dead_man_seconds": 10,
        "stop_grace_seconds": 30,
        "cancel_poll_seconds": 0.05,
        "queue_poll_seconds": 0.02,
        "keep_child_ready": False,
    }


def environment_of(values: dict[str, Any]) -> dict[str, str]:
    """The settings as a service process reads them."""
    own = {f"GENPLAT_{name.upper()}": str(value) for name, value in values.items()}
    return {**os.environ, **own, "PYTHONPATH": str(Path(__file__).parents[2])}


def stream_events(valkey: Valkey) -> list[RunEvent]:
    with closing(valkey.client()) as client:
        entries: Any = client.xrange(STREAM)
    events = [parse(fields) for _, fields in entries]
    assert None not in events
    return [event for event in events if event is not None]


def nothing_is_queued(valkey: Valkey) -> bool:
    """Whether Redis holds nothing of any job."""
    with closing(valkey.client()) as client:
        found: Any = (client.keys("arq:*"), client.keys("genplat:queue*"))
    return not any(found)


def payloads(events: list[RunEvent], kind: str) -> list[Payload]:
    return [event.payload for event in events if event.payload.type == kind]


def is_gone(pid: int) -> bool:
    """Dead, or a zombie that its new parent has yet to collect."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


async def wait_until(met: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


def wait_for(met: Callable[[], bool], seconds: float = 60) -> None:
    asyncio.run(wait_until(met, seconds))
