"""Whole pre-flight reports over tiny models: made in this process, in a child, and by a worker."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ByT5Tokenizer, T5Config, T5ForConditionalGeneration

from shared.datasets import Record
from shared.job_queue import PREFLIGHT, ArqQueue, connect
from shared.model_library import LibraryEntry
from shared.preflight import (
    DatasetFacts,
    PreflightCommand,
    PreflightFile,
    PreflightReport,
    job_id,
)
from shared.runs import DatasetRef, RunCommand
from shared.storage import Storage
from tests.trainer_service.runs import (
    quick_settings,
    small_records,
    small_spec,
    wait_until,
    write_dataset,
)
from tests.trainer_service.tiny import TINY_MODEL
from tests.valkey import Valkey
from trainer_service.base_models import prepare_base_model
from trainer_service.hardware import Device, find_device
from trainer_service.preflight import BUSY, SHARDED, Examination
from trainer_service.preflighting import Preflight
from trainer_service.worker import TrainerWorker

TINY_T5 = "tests/tiny-t5"
ID = "a" * 40


def prepare_tiny_t5(storage: Storage, folder: Path) -> None:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=384, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    ByT5Tokenizer().save_pretrained(folder)
    prepare_base_model(storage, TINY_T5, folder=folder)


def command(
    storage: Storage,
    *,
    records: list[Record] | None = None,
    validation: DatasetRef | None = None,
    model: str = TINY_MODEL,
    **spec: Any,
) -> PreflightCommand:
    dataset = write_dataset(storage, records=records)
    asked = small_spec(base_model=model, **spec)
    return PreflightCommand(
        id=ID,
        owner="me",
        run=RunCommand(
            run_id=ID, attempt=1, spec=asked, datasets=(dataset,), validation=validation
        ),
        model=LibraryEntry(id=model, name=model),
        datasets=[DatasetFacts(id=dataset.id, name="small", version=1, format="pairs", rows=24)],
    )


def examine(
    storage: Storage, wanted: PreflightCommand, *, busy: bool = False, device: Device | None = None
) -> PreflightReport:
    examination = Examination(wanted, storage, device=device or find_device(), busy=busy)
    examination.look()
    examination.measure()
    report = examination.report()
    # It crosses a process boundary.
    assert PreflightReport.model_validate_json(report.model_dump_json()) == report
    return report


def test_a_good_run_is_looked_at_whole(storage: Storage) -> None:
    report = examine(storage, command(storage))
    assert (report.status, report.problems, report.missing) == ("done", [], [])
    assert report.data is not None and (report.data.training, report.data.validation) == (19, 5)
    assert report.hyperparameters is not None and report.hyperparameters.max_steps == 12
    (lengths,) = report.lengths
    assert (lengths.what, lengths.over) == ("row", 0)
    assert report.labels is not None
    assert report.labels.rows == 19 and report.labels.rows_without_end == 0
    first = report.examples[0].pieces
    assert [piece.learned for piece in first][:2] == [False, True]
    assert first[0].text.startswith("<|im_start|>user\nsay ")
    assert first[1].text.endswith("!<|im_end|>")
    assert report.memory is not None and report.memory.fits
    assert report.time is not None and report.time.measured and report.final
    assert report.time.seconds is not None and report.time.seconds > 0
    assert report.time.warm_up_steps == 3
    # A check leaves nothing of a run behind.
    assert not storage.run(ID).exists()


def test_an_encoder_decoder_is_looked_at_as_equal(storage: Storage, tmp_path: Path) -> None:
    prepare_tiny_t5(storage, tmp_path / "t5")
    report = examine(storage, command(storage, model=TINY_T5, max_length=16, max_target_length=64))
    assert report.problems == []
    source, target = report.lengths
    assert (source.what, source.fate, target.what) == ("source", "cut", "target")
    assert source.longest == len("say 13 xxxxxx") + 1 and source.over == 0
    assert [piece.learned for piece in report.examples[0].pieces] == [False, True]
    assert report.labels is not None and report.labels.rows_without_end == 0
    assert report.memory is not None and report.time is not None and report.time.measured


def test_a_check_decides_lengths_as_the_run_will(storage: Storage, tmp_path: Path) -> None:
    prepare_tiny_t5(storage, tmp_path / "t5")
    records = [Record.from_pair(f"source {n}", "a" * n) for n in (5, 300, 600)]
    report = examine(storage, command(storage, records=records, model=TINY_T5, validation_split=0))
    assert report.hyperparameters is not None
    assert report.hyperparameters.max_target_length == 512
    assert (report.lengths[1].limit, report.lengths[1].over) == (512, 1)


def test_rows_that_are_all_too_long_say_so_and_everything_else_is_told(storage: Storage) -> None:
    report = examine(storage, command(storage, max_length=16))
    assert "Every row is longer than max_length (16 tokens)" in report.problems[0]
    assert report.lengths[0].over == 24 or report.lengths[0].over == 19
    assert report.data is not None and report.hyperparameters is not None
    assert report.time is not None and not report.time.measured


def test_a_model_that_is_not_here_is_said_and_the_rest_is_told(storage: Storage) -> None:
    wanted = command(storage, model="nobody/nothing", learning_rate=0.9)
    report = examine(storage, wanted)
    assert "nobody/nothing is not on this machine" in report.missing[0]
    assert report.data is not None and report.hyperparameters is not None
    assert any("training will most likely diverge" in warning for warning in report.warnings)
    assert report.lengths == [] and report.labels is None
    assert report.time is not None and not report.time.measured


def test_while_a_run_trains_nothing_is_timed_and_asking_later_says_more(storage: Storage) -> None:
    report = examine(storage, command(storage), busy=True)
    assert report.time is not None and report.time.reason == BUSY
    assert not report.final and report.labels is not None


def test_a_run_that_does_not_fit_is_not_tried(storage: Storage) -> None:
    small = Device(kind="cpu", name="small", memory_bytes=300_000_000)
    report = examine(storage, command(storage), device=small)
    assert report.memory is not None and not report.memory.fits
    assert report.memory.sentence in report.problems
    assert report.time is not None and not report.time.measured


def test_a_run_on_several_devices_is_looked_at_as_each_of_them_sees_it(storage: Storage) -> None:
    report = examine(storage, command(storage, devices=2, sharding="full"))
    assert report.memory is not None and report.memory.sharded and report.memory.devices == 2
    assert report.time is not None and report.time.reason == SHARDED
    assert any("no faster than one" in warning for warning in report.warnings)
    many = examine(storage, command(storage, devices=64))
    assert any(problem.startswith("devices: 64 are asked for") for problem in many.problems)


def test_validation_on_what_is_learned_is_seen(storage: Storage) -> None:
    records = small_records(12)
    wanted = command(
        storage,
        records=[*records, records[0]],
        validation=write_dataset(storage, "ds_other", records[:4]),
    )
    report = examine(storage, wanted)
    assert report.data is not None
    assert (report.data.duplicates, report.data.overlapping_records) == (1, 4)
    assert any("4 of 4 validation rows" in warning for warning in report.warnings)


def test_changed_records_and_a_template_that_refuses_them_are_problems(storage: Storage) -> None:
    wanted = command(storage)
    storage.dataset_records("ds_small").write_text("{}")
    report = examine(storage, wanted)
    assert "changed since the run was made" in report.problems[0]
    assert report.data is None and report.status == "done"


def saved(storage: Storage) -> PreflightFile:
    return PreflightFile.model_validate_json(storage.preflight(ID).read_bytes())


def test_a_child_writes_the_report_and_old_ones_go(storage: Storage, valkey: Valkey) -> None:
    settings = quick_settings(storage, valkey)
    old = storage.preflight("b" * 40)
    old.parent.mkdir()
    old.write_text("{}")
    os.utime(old, (0, 0))
    asyncio.run(Preflight(command(storage), busy=False, settings=settings).run())
    file = saved(storage)
    assert file.owner == "me" and file.report.status == "done"
    assert file.report.time is not None and file.report.time.measured
    assert [path.name for path in storage.preflight(ID).parent.iterdir()] == [f"{ID}.json"]


def test_a_child_that_is_killed_leaves_a_reason(
    storage: Storage, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = quick_settings(storage, valkey)

    async def kill_it() -> None:
        check = Preflight(command(storage), busy=False, settings=settings)
        running = asyncio.create_task(check.run())
        await wait_until(lambda: check.process is not None)
        assert check.process is not None
        check.process.kill()
        await running

    asyncio.run(kill_it())
    report = saved(storage).report
    assert report.status == "failed" and "ran out of memory" in report.problems[0]


def test_a_worker_makes_the_checks_of_its_queue(storage: Storage, valkey: Valkey) -> None:
    settings = quick_settings(storage, valkey)

    async def ask() -> None:
        worker = TrainerWorker(settings)
        running = asyncio.create_task(worker.run())
        pool = await connect(settings.redis_url)
        try:
            queue = ArqQueue(pool)
            payload = json.loads(command(storage).model_dump_json())
            await queue.enqueue(PREFLIGHT, job_id(ID), payload)
            while await queue.holds(job_id(ID)):
                await asyncio.sleep(0.05)
        finally:
            await worker.stop()
            await running
            await worker.close()
            await pool.aclose(close_connection_pool=True)

    asyncio.run(ask())
    assert saved(storage).report.status == "done"


@pytest.mark.parametrize(
    "change", [lambda wanted: wanted.pop("run"), lambda wanted: wanted.clear()]
)
def test_a_command_that_makes_no_sense_is_left(
    storage: Storage, valkey: Valkey, change: Callable[[dict[str, Any]], Any]
) -> None:
    payload = json.loads(command(storage).model_dump_json())
    change(payload)

    async def ask() -> None:
        worker = TrainerWorker(quick_settings(storage, valkey))
        await worker._check({"job_id": "j"}, payload)
        await worker.close()

    asyncio.run(ask())
    assert not storage.preflight(ID).exists()
