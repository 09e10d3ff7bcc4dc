"""B11: how soon a queued run is taken, and how soon it makes its first optimizer step.

A real Valkey and a real trainer service with their default times. Pick-up: from the enqueue to the
worker's `started` event. First step: from the enqueue to the event of step 1, SmolLM2 with LoRA,
against a cold ``python train.py`` (`benchmarks.cold_train`) from its start to the same point. And
the pick-up of ARQ with its own defaults.

    python -m benchmarks.run_start [--pickups 40] [--rounds 3]
"""

import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.lessons import text_of, words, write_pairs
from tests.valkey import free_port, running_valkey

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
# Nobody's: a run on it ends as soon as it was taken.
NO_MODEL = "nobody/no-such-model"


@contextlib.contextmanager
def trainer(folder: Path, redis_url: str) -> Iterator[None]:
    """The trainer service as `genplat up` starts it."""
    environment = {**os.environ, "PYTHONPATH": str(harness.ROOT), "HF_HUB_OFFLINE": "1"}
    environment |= {"GENPLAT_DATA_DIR": str(folder), "GENPLAT_REDIS_URL": redis_url}
    environment |= {"GENPLAT_INTERNAL_TOKEN": "benchmark", "GENPLAT_LOG_LEVEL": "WARNING"}
    command = [sys.executable, "-m", "trainer_service.app", "--port", str(free_port())]
    process = subprocess.Popen(command, env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


class Client:
    """What the gateway does for a run's start: enqueue it, and read what its worker says."""

    def __init__(self, redis: Any, folder: Path) -> None:
        from shared.job_queue import ArqQueue
        from shared.storage import Storage

        self.redis, self.queue, self.storage = redis, ArqQueue(redis), Storage(folder)
        self.count = 0

    async def start(self, base_model: str, dataset: str) -> tuple[str, float]:
        from shared.job_queue import TRAIN_RUN
        from shared.runs import DatasetRef, FineTuneSpec, RunCommand
        from shared.storage import sha256_of

        self.count += 1
        run_id = f"run_bench{self.count}"
        digest = sha256_of(self.storage.dataset_records(dataset))
        spec = FineTuneSpec(
            base_model=base_model,
            dataset_id=dataset,
            validation_split=0,
            max_steps=1000,
            per_device_train_batch_size=2,
        )
        command = RunCommand(
            run_id=run_id,
            attempt=1,
            spec=spec,
            datasets=(DatasetRef(id=dataset, records_sha256=digest),),
        )
        began = time.time()
        await self.queue.enqueue(TRAIN_RUN, command.job_id, command.model_dump(mode="json"))
        return run_id, began

    async def events(self, run_id: str) -> AsyncIterator[Any]:
        from shared import event_stream

        after = "0-0"
        while True:
            for stream_id, event in await event_stream.read(self.redis, after=after, block_ms=1000):
                after = stream_id
                if event is not None and event.run_id == run_id:
                    yield event

    async def seconds_until(self, kind: str, run_id: str, began: float) -> float:
        async for event in self.events(run_id):
            if event.payload.type == kind:
                return float(event.time.timestamp() - began)
        raise AssertionError("unreachable")

    async def cancel(self, run_id: str) -> None:
        from shared.event_stream import cancel_key

        await self.redis.set(cancel_key(run_id), 1)
        await self.seconds_until("finished", run_id, 0)


async def measure(folder: Path, redis_url: str, options: Any) -> dict[str, Any]:
    from shared import job_queue

    redis = job_queue.client(redis_url)
    client = Client(redis, folder)
    figures: dict[str, Any] = {"pickup": [], "first_step": [], "cold": [], "arq": []}
    # The first one waits for the service to be up.
    run_id, began = await client.start(NO_MODEL, "bench")
    await client.seconds_until("finished", run_id, began)
    source = random.Random(3)
    for _ in range(options.pickups):
        await asyncio.sleep(source.uniform(0.2, 0.5))
        run_id, began = await client.start(NO_MODEL, "bench")
        figures["pickup"].append(await client.seconds_until("started", run_id, began))
        await client.cancel(run_id)
    for number in range(options.rounds):
        await asyncio.sleep(2)
        run_id, began = await client.start(MODEL, "bench")
        figures["first_step"].append(await client.seconds_until("metrics", run_id, began))
        await client.cancel(run_id)
        figures["cold"].append(await asyncio.to_thread(cold_start, folder))
        print(
            f"  round {number + 1}  first step {figures['first_step'][-1]:.2f} s  "
            f"cold script {figures['cold'][-1]:.2f} s",
            flush=True,
        )
    figures["arq"] = await arq_pickups(redis_url, options.pickups // 2)
    await redis.aclose()
    return figures


def cold_start(folder: Path) -> float:
    """Seconds from starting ``python train.py`` to the end of its first step."""
    from shared.storage import Storage

    base = Storage(folder).base_model(MODEL)
    command = [sys.executable, "-m", "benchmarks.cold_train", str(base), str(folder / "t.jsonl")]
    environment = {**os.environ, "PYTHONPATH": str(harness.ROOT), "HF_HUB_OFFLINE": "1"}
    began = time.time()
    said = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ).stdout.decode()
    line = next(line for line in said.splitlines() if line.startswith('{"first_step"'))
    return float(json.loads(line)["first_step"]) - began


async def arq_pickups(redis_url: str, count: int) -> list[float]:
    """ARQ as it comes: enqueue to the first line of the job."""
    from arq.connections import RedisSettings, create_pool
    from arq.worker import Worker, func

    begun: dict[int, float] = {}
    arrived = asyncio.Event()

    async def job(_context: Any, number: int) -> None:
        begun[number] = time.time()
        arrived.set()

    settings = RedisSettings.from_dsn(redis_url)
    worker = Worker([func(job, name="job")], redis_settings=settings, handle_signals=False)
    task = asyncio.create_task(worker.async_run())
    pool, found = await create_pool(settings), []
    source = random.Random(4)
    for number in range(count):
        await asyncio.sleep(source.uniform(0.6, 1.2))
        arrived.clear()
        began = time.time()
        await pool.enqueue_job("job", number)
        await arrived.wait()
        found.append(begun[number] - began)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await pool.aclose()
    return found


def prepare(folder: Path) -> None:
    from shared.datasets import Record
    from shared.storage import Storage
    from trainer_service.base_models import prepare_base_model
    from trainer_service.modeling import load_tokenizer

    storage = Storage(folder)
    tokenizer = load_tokenizer(prepare_base_model(storage, MODEL))
    source, known = random.Random(7), words()
    pairs = [
        (text_of(tokenizer, 80, source, known), text_of(tokenizer, 40, source, known))
        for _ in range(64)
    ]
    write_pairs(folder / "t.jsonl", pairs)
    records = storage.dataset_records("bench")
    records.parent.mkdir(parents=True)
    records.write_text("".join(Record.from_pair(*pair).model_dump_json() + "\n" for pair in pairs))


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def report(figures: dict[str, Any]) -> dict[str, Any]:
    faster, least, most = harness.ratios(figures["cold"], figures["first_step"])
    print("\n| what | p50 | p95 |\n|-|-|-|")
    for name, key in (("pick-up of a queued run", "pickup"), ("ARQ with its defaults", "arq")):
        p50, p95 = statistics.median(figures[key]), percentile(figures[key], 0.95)
        print(f"| {name} | {1000 * p50:.0f} ms | {1000 * p95:.0f} ms |")
    print(f"\nfirst step after {statistics.median(figures['first_step']):.2f} s; a cold script ")
    print(f"{statistics.median(figures['cold']):.2f} s: {faster:.2f}× ({least:.2f} to {most:.2f})")
    return figures | {"faster": faster}


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--pickups", type=int, default=40)
    options = parser.parse_args()
    print(harness.machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        with running_valkey(folder) as valkey, trainer(folder, valkey.url):
            figures = asyncio.run(measure(folder, valkey.url, options))
        harness.write_json(options.json, report(figures))


if __name__ == "__main__":
    main()
