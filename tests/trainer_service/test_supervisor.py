"""One attempt under its supervisor: starts that fail, stops that come too early, and children that
say or leave behind what they should not (hand-written ones, that load no torch)."""

import asyncio
import contextlib
import errno
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from redis.asyncio import Redis

from shared.event_stream import cancel_key
from shared.run_events import Finished, Logged, Measured, RunEvent, RunState, apply_event
from shared.storage import Storage
from tests.trainer_service.runs import (
    is_gone,
    make_command,
    quick_settings,
    stream_events,
    wait_for,
)
from tests.trainer_service.tiny import save_tiny_model
from tests.valkey import Valkey
from trainer_service.child_process import MAX_LINE, start_module
from trainer_service.event_log import EventLog
from trainer_service.supervisor import Supervisor


@contextlib.asynccontextmanager
async def supervised(
    storage: Storage, valkey: Valkey, attempt: int = 1
) -> AsyncIterator[Supervisor]:
    """A supervisor of a run that would never end."""
    settings = quick_settings(storage, valkey)
    redis: Redis = Redis.from_url(settings.redis_url, socket_timeout=5)
    command = make_command(storage, attempt=attempt, max_steps=100_000, save_steps=100_000)
    try:
        yield Supervisor(command, settings=settings, redis=redis)
    finally:
        await redis.aclose()


def run_once(storage: Storage, valkey: Valkey, attempt: int = 1) -> Finished:
    async def scenario() -> Finished:
        async with supervised(storage, valkey, attempt) as supervisor:
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

    monkeypatch.setattr("trainer_service.outcomes.manifest_problem", broken)
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


TALK = """
import json, subprocess, sys, time
def say(**payload):
    print(json.dumps(payload), flush=True)
def step(number, epoch=0.5):
    say(type="metrics", step=number, total_steps=9, epoch=epoch, loss=1.0)
def succeed():
    say(type="finished", status="succeeded")
"""
Play = Callable[[str], None]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Puts a script in the place of the training child."""

    def put_in_place(script: str) -> None:
        (tmp_path / "stand_in.py").write_text(TALK + script)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr("trainer_service.supervisor.CHILD_MODULE", "stand_in")

    return put_in_place


def steps(events: list[RunEvent]) -> list[int]:
    return [event.payload.step for event in events if isinstance(event.payload, Measured)]


def assert_gapless(events: list[RunEvent]) -> None:
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


@pytest.mark.parametrize("length", [MAX_LINE + 1, 5 * MAX_LINE])
def test_a_line_that_is_too_long_is_left_out_and_nothing_else(
    storage: Storage, valkey: Valkey, play: Play, length: int
) -> None:
    play(f"step(1)\nprint('x' * {length}, flush=True)\nstep(2)\nprint('?')\nstep(3)\nsucceed()")
    assert run_once(storage, valkey).status == "succeeded"
    events = stream_events(valkey)
    assert steps(events) == [1, 2, 3]
    assert_gapless(events)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_child_leaves_behind_is_killed_and_holds_nobody_up(
    storage: Storage, valkey: Valkey, play: Play, tmp_path: Path
) -> None:
    """A process that keeps the pipes open would keep the run from ever ending."""
    note = tmp_path / "pid"
    play(
        "left = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(note)!r}, 'w').write(str(left.pid))\n"
        "step(1)\nsucceed()"
    )
    assert run_once(storage, valkey).status == "succeeded"
    assert steps(stream_events(valkey)) == [1]
    left = int(note.read_text())
    wait_for(lambda: is_gone(left), seconds=10)


@pytest.mark.parametrize(
    ("key", "attempt", "status"),
    [
        (b"1", 2, "succeeded"),
        (b"1", 1, "cancelled"),
        (b"2", 2, "cancelled"),
        # Its gateway is already at the next attempt: this one is over, too.
        (b"3", 2, "cancelled"),
        (b"?", 2, "cancelled"),
    ],
)
@pytest.mark.parametrize("early", [True, False])
def test_a_cancel_is_for_its_own_attempt_and_those_before(
    storage: Storage,
    valkey: Valkey,
    play: Play,
    key: bytes,
    attempt: int,
    status: str,
    early: bool,
) -> None:
    """The key of a run is looked for before its child starts, and all the while it trains."""
    wait = "time.sleep(0.6)" if status == "succeeded" else "time.sleep(600)"
    play(f"step(1)\n{wait}\nsucceed()")

    async def scenario() -> Finished:
        async with supervised(storage, valkey, attempt) as supervisor:
            if early:
                await supervisor.redis.set(cancel_key("run_a"), key)
            running = asyncio.create_task(supervisor.run())
            while not early and not steps(supervisor.log.written()):
                await asyncio.sleep(0.01)
            await supervisor.redis.set(cancel_key("run_a"), key)
            return await asyncio.wait_for(running, 20)

    assert asyncio.run(scenario()) == Finished(status=status)
    expected = [] if early and status == "cancelled" else [1]
    assert steps(stream_events(valkey)) == expected


def test_a_disk_that_becomes_full_ends_the_run_and_the_stream_hears_of_it(
    storage: Storage, valkey: Valkey, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = EventLog._write

    def fills_up(log: EventLog, event: RunEvent) -> None:
        if event.seq > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(log, event)

    monkeypatch.setattr(EventLog, "_write", fills_up)
    play("for number in range(1, 100_000):\n    step(number)\n    time.sleep(0.05)")
    end = run_once(storage, valkey)
    assert (end.status, end.code, end.retry) == ("failed", "disk_full", False)
    events = stream_events(valkey)
    assert_gapless(events)
    assert len(events) > 4 and events[-1].payload == end
    assert len(storage.run_events("run_a").read_bytes().splitlines()) == 4


def test_an_event_that_cannot_be_written_for_another_reason_is_only_published(
    storage: Storage, valkey: Valkey, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = EventLog._write

    def hiccup(log: EventLog, event: RunEvent) -> None:
        if isinstance(event.payload, Measured) and event.payload.step == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        write(log, event)

    monkeypatch.setattr(EventLog, "_write", hiccup)
    play("step(1)\nstep(2)\nstep(3)\nsucceed()")
    assert run_once(storage, valkey).status == "succeeded"
    assert_gapless(stream_events(valkey))
    assert steps(stream_events(valkey)) == [1, 2, 3]


def test_a_worker_that_is_back_on_the_same_attempt_goes_on_behind_its_last_event(
    storage: Storage, valkey: Valkey, play: Play
) -> None:
    before = EventLog(storage.run_events("run_a"), run_id="run_a", attempt=1)
    for word in ("one", "two"):
        before.add(Logged(message=word))
    with before.path.open("ab") as file:
        file.write(b'{"run_id": "run_a", "attem')
    play("step(1)\nsucceed()")
    assert run_once(storage, valkey).status == "succeeded"
    events = stream_events(valkey)
    assert_gapless(events)
    kinds = [event.payload.type for event in events if event.payload.type != "heartbeat"]
    assert kinds == ["log", "log", "started", "metrics", "finished"]
    assert EventLog(before.path, run_id="run_a", attempt=1).written() == events
