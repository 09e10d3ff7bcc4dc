"""One attempt under its supervisor: a start that fails, and a stop that comes too early."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from redis.asyncio import Redis

from shared.run_events import Finished, RunState, apply_event
from shared.storage import Storage
from tests.trainer_service.runs import make_command, quick_settings, stream_events
from tests.trainer_service.tiny import save_tiny_model
from tests.valkey import Valkey
from trainer_service.child_process import start_module
from trainer_service.supervisor import Supervisor


@contextlib.asynccontextmanager
async def supervised(storage: Storage, valkey: Valkey) -> AsyncIterator[Supervisor]:
    """A supervisor of a run that would never end."""
    settings = quick_settings(storage, valkey)
    redis: Redis = Redis.from_url(settings.redis_url, socket_timeout=5)
    command = make_command(storage, max_steps=100_000, save_steps=100_000)
    try:
        yield Supervisor(command, settings=settings, redis=redis)
    finally:
        await redis.aclose()


def run_once(storage: Storage, valkey: Valkey) -> Finished:
    async def scenario() -> Finished:
        async with supervised(storage, valkey) as supervisor:
            return await asyncio.wait_for(supervisor.run(), 20)

    return asyncio.run(scenario())


def put_a_file_in_the_way(storage: Storage) -> None:
    place = storage.run("run_a")
    place.parent.mkdir(parents=True)
    place.write_text("not a folder")


def make_the_log_unwritable(storage: Storage) -> None:
    storage.run_events("run_a").mkdir(parents=True)
    (storage.run("run_a") / "command.json").mkdir()


@pytest.mark.parametrize("spoil", [put_a_file_in_the_way, make_the_log_unwritable])
def test_a_run_whose_folder_takes_nothing_fails_and_says_so(
    storage: Storage, valkey: Valkey, spoil: Callable[[Storage], None]
) -> None:
    spoil(storage)
    end = run_once(storage, valkey)
    assert (end.status, end.code, end.retry) == ("failed", "training_crashed", True)
    assert end.message is not None and "could not be started" in end.message
    assert str(storage.root) not in end.message
    events = stream_events(valkey)
    assert [event.payload.type for event in events] == ["started", "finished"]
    assert [event.seq for event in events] == [1, 2]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_at_the_start_ends_the_run(
    storage: Storage, valkey: Valkey, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_arguments: object) -> NoReturn:
        raise OSError(number, "no room")

    monkeypatch.setattr("trainer_service.supervisor.atomic_file", full)
    monkeypatch.setattr("trainer_service.event_log.EventLog._write", full)
    end = run_once(storage, valkey)
    assert (end.status, end.code, end.retry) == ("failed", "disk_full", False)
    state = RunState(status="queued", attempt=1)
    for event in stream_events(valkey):
        state = apply_event(state, event)
    assert (state.status, state.error_code) == ("failed", "disk_full")
    assert state.error_message is not None and "Free space" in state.error_message


def test_a_result_that_cannot_be_read_fails_the_attempt(
    storage: Storage, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> NoReturn:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("trainer_service.supervisor.manifest_problem", broken)
    end = run_once(storage, valkey)
    assert (end.status, end.code, end.retry) == ("failed", "training_crashed", True)
    assert [event.payload for event in stream_events(valkey)] == [end]


def test_a_stop_that_meets_a_child_just_being_started_ends_it(
    storage: Storage, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[asyncio.subprocess.Process] = []

    async def scenario() -> Finished:
        async with supervised(storage, valkey) as supervisor:

            async def start_and_stop(*arguments: Any, **options: Any) -> Any:
                started.append(await start_module(*arguments, **options))
                await supervisor.stop()
                return started[0]

            monkeypatch.setattr("trainer_service.supervisor.start_module", start_and_stop)
            return await asyncio.wait_for(supervisor.run(), 20)

    assert asyncio.run(scenario()).status == "preempted"
    assert started[0].returncode is not None


def save_model_to_add(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    save_tiny_model(folder)
    return folder


def train_on(storage: Storage, valkey: Valkey, folder: Path) -> Finished:
    """A run on a model that was added as a folder, and that nobody has prepared."""
    settings = quick_settings(storage, valkey)
    command = make_command(storage, base_model="me/mine", max_steps=2)
    command = command.model_copy(update={"base_model_folder": folder})

    async def scenario() -> Finished:
        redis: Redis = Redis.from_url(settings.redis_url, socket_timeout=5)
        try:
            return await Supervisor(command, settings=settings, redis=redis).run()
        finally:
            await redis.aclose()

    return asyncio.run(scenario())


def test_a_base_model_that_is_not_ready_is_prepared_by_the_only_child_with_a_token(
    storage: Storage, valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str | None] = {}

    async def note(module: str, *arguments: str, environment: Any, **options: Any) -> Any:
        seen[module] = environment.get("HF_TOKEN")
        return await start_module(module, *arguments, environment=environment, **options)

    monkeypatch.setenv("HF_TOKEN", "opens-gated-models")
    monkeypatch.setattr("trainer_service.supervisor.start_module", note)
    monkeypatch.setattr("trainer_service.preparing.start_module", note)
    assert train_on(storage, valkey, save_model_to_add(tmp_path)).status == "succeeded"
    assert seen == {
        "trainer_service.base_models": "opens-gated-models",
        "trainer_service.child": None,
    }


def test_a_base_model_that_cannot_be_prepared_ends_its_run_with_the_reason(
    storage: Storage, valkey: Valkey, tmp_path: Path
) -> None:
    end = train_on(storage, valkey, tmp_path / "nowhere")
    assert (end.status, end.code, end.retry) == ("failed", "not_found", False)
    assert end.message is not None and "does not exist" in end.message
    assert not storage.run_checkpoints("run_a").exists()
