"""Watches over one training child and speaks for it: events up, its owner's wishes down.

Knows no torch and no queue. Redis may go and come back while a child trains: the child does not
notice, and its events wait on disk.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
import time

from pydantic import TypeAdapter, ValidationError
from redis.asyncio import Redis

from shared.chaos import stage
from shared.model_library import is_prepared, preparation_failure
from shared.run_events import Advanced, Beat, Finished, Logged, Payload, Started
from shared.runs import RunCommand
from shared.storage import Storage, atomic_file
from shared.tasks import cancel_until_done
from trainer_service import exit_codes
from trainer_service.child_process import (
    child_environment,
    kill_group,
    say,
    start_module,
    stop_process,
)
from trainer_service.controls import Wish, read_wish
from trainer_service.event_log import EventLog
from trainer_service.guards import ENOUGH, sign_of_life
from trainer_service.outcomes import Ended, existing_result, not_started, outcome
from trainer_service.preparing import PrepareCommand, start_preparing
from trainer_service.settings import TrainerSettings
from trainer_service.spare import CHILD_MODULE, Spare
from trainer_service.telemetry import Figures

log = logging.getLogger(__name__)

RANKS_MODULE = "trainer_service.ranks"
COMMAND_FILE = "command.json"
_PAYLOAD: TypeAdapter[Payload] = TypeAdapter(Payload)
# How often the end of a run is offered to a Redis that does not answer.
RETRY_SECONDS = 1.0


class Supervisor:
    """One attempt of one run."""

    def __init__(
        self,
        command: RunCommand,
        *,
        settings: TrainerSettings,
        redis: Redis,
        spare: Spare | None = None,
        figures: Figures | None = None,
    ) -> None:
        self.command = command
        self.figures = figures or Figures()
        self.figures.begin(command)
        self.spare = spare
        self.settings = settings
        self.redis = redis
        self.storage = Storage(settings.root)
        events = self.storage.run_events(command.run_id)
        self.log = EventLog(events, run_id=command.run_id, attempt=command.attempt)
        self.process: asyncio.subprocess.Process | None = None
        self.ended: Ended | None = None
        self.stopping = asyncio.Event()
        self.finished: Finished | None = None
        self.error: str | None = None
        self._news = asyncio.Event()

    async def run(self) -> Finished:
        """Train to the end, whatever it is, and report it."""
        publishing = asyncio.create_task(self._publish_news())
        try:
            end = await self._attempt()
        finally:
            await cancel_until_done([publishing])
        self._say(end)
        log.info("Run %s attempt %d: %s", self.command.run_id, self.command.attempt, end.status)
        await self._deliver()
        return end

    async def stop(self) -> None:
        """Preempt: a checkpoint if the grace allows, then the end."""
        self.stopping.set()
        if self.process is not None and self.ended in (None, "paused"):
            self.ended = self.ended or "preempted"
            await stop_process(self.process, grace_seconds=self.settings.stop_grace_seconds)

    async def _attempt(self) -> Finished:
        try:
            result = self.storage.run_result(self.command.run_id)
            if (end := existing_result(result)) is not None:
                return end
        except OSError as error:
            return self._cannot_start(error)
        self._say(Started(worker=self.settings.worker_name))
        wish = await self._wish()
        if wish == "cancel":
            return Finished(status="cancelled")
        if wish == "pause":
            return Finished(status="paused")
        if self.stopping.is_set():
            return Finished(status="preempted")
        return await self._train()

    async def _train(self) -> Finished:
        try:
            if (failed := await self._prepare()) is not None:
                return failed
            code = await self._see_through(await self._start())
        except OSError as error:
            return self._cannot_start(error)
        return outcome(code, ended=self.ended, finished=self.finished, error=self.error)

    async def _prepare(self) -> Finished | None:
        """Have the base model fetched and converted where nobody has: by a child of its own, since
        the one that trains holds no token of the hub. What ended the run, if it did not work."""
        model_id = self.command.spec.base_model
        if is_prepared(self.storage, model_id):
            return None
        self._say(Advanced(phase="preparing"))
        command = PrepareCommand(
            model_id=model_id,
            folder=self.command.base_model_folder,
            request_id=self.command.request_id,
        )
        code = await self._see_through(
            await start_preparing(command, self.storage.root, piped=True)
        )
        if code == exit_codes.OK and self.ended is None:
            return None
        why = preparation_failure(self.storage, model_id)
        if self.ended is None and why is not None:
            return Finished(status="failed", code=why.code, message=why.message)
        return outcome(code, ended=self.ended, finished=None, error=None)

    async def _see_through(self, process: asyncio.subprocess.Process) -> int:
        """Answer for a child until it and all that it started is gone; its exit code."""
        self.process = process
        stage("worker_spawned", self.command.job_id)
        try:
            if self.stopping.is_set():
                # `stop` came while the child was starting, and found none.
                await self.stop()
            return await self._watch(process)
        finally:
            kill_group(process)
            await process.wait()

    def _cannot_start(self, error: OSError) -> Finished:
        log.error("Run %s cannot be started: %s", self.command.run_id, error)
        return not_started(error)

    async def _watch(self, process: asyncio.subprocess.Process) -> int:
        """Speak for the child until it ends; its exit code."""
        watchers = [
            asyncio.create_task(watcher)
            for watcher in (
                self._feed_dead_man(process),
                self._beat(),
                self._watch_wishes(process),
                self._sweep_group(process),
            )
        ]
        readers = asyncio.gather(self._read_events(process), self._pass_stderr(process))
        try:
            await readers
            return await process.wait()
        finally:
            await cancel_until_done(watchers)

    async def _start(self) -> asyncio.subprocess.Process:
        """A child with its command in a file. OSError where that file cannot be written."""
        file = self.storage.run(self.command.run_id) / COMMAND_FILE
        spec = {
            "command": self.command.model_dump(mode="json"),
            "data_dir": str(self.storage.root),
            "worker": self.settings.worker_name,
            "parent_pid": os.getpid(),
            "dead_man_seconds": self.settings.dead_man_seconds,
            "alive_at": time.monotonic(),
        }
        with atomic_file(file) as handle:
            handle.write(json.dumps(spec).encode())
        stage("worker_spawns", self.command.job_id)
        self.figures.children += 1
        several = self.command.spec.devices > 1
        if not several and self.spare is not None and (ready := self.spare.take(file)) is not None:
            return ready
        module = RANKS_MODULE if several else CHILD_MODULE
        return await start_module(
            module, str(file), environment=child_environment(os.environ), piped=True
        )

    def _say(self, payload: Payload) -> None:
        """Write an event down; a full disk ends the run, but its events still go out."""
        self.figures.hear(payload)
        try:
            self.log.add(payload)
        except OSError as error:
            log.error("events.jsonl of %s: %s", self.command.run_id, error)
            if exit_codes.is_disk_full(error) and self.process and self.ended is None:
                self.ended = "disk_full"
                kill_group(self.process)
        self._news.set()

    async def _read_events(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 (it was piped)
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                log.warning("A line of the child was too long and is left out.")
                continue
            if not line:
                return
            try:
                payload = _PAYLOAD.validate_json(line)
            except ValidationError:
                log.warning("The child said something that is no event: %r", line[:200])
                continue
            self._take(payload)

    def _take(self, payload: Payload) -> None:
        if isinstance(payload, Finished):
            # True only once the exit code says so too.
            self.finished = payload
            return
        if isinstance(payload, Logged) and payload.level == "error":
            self.error = payload.message
        self._say(payload)

    async def _pass_stderr(self, process: asyncio.subprocess.Process) -> None:
        """On to our own log; read always, since a full pipe would stop the child."""
        assert process.stderr is not None  # noqa: S101 (it was piped)
        while chunk := await process.stderr.read(8192):
            sys.stderr.write(chunk.decode(errors="replace"))

    async def _feed_dead_man(self, process: asyncio.subprocess.Process) -> None:
        """A sign now and then, also while Redis is down: nobody else can take the run then."""
        pause = min(self.settings.heartbeat_seconds, self.settings.dead_man_seconds / 4)
        while True:
            say(process, sign_of_life())
            await asyncio.sleep(pause)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.settings.heartbeat_seconds)
            if self.log.reachable:
                self._say(Beat())
            await self.log.publish_again_if_lost(self.redis)
            self._news.set()

    async def _publish_news(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if not await self.log.publish(self.redis):
                await asyncio.sleep(RETRY_SECONDS)
                self._news.set()

    async def _watch_wishes(self, process: asyncio.subprocess.Process) -> None:
        """Pass each new wish on to the child, until it ends."""
        passed: Wish | None = None
        while passed != "cancel":
            wish = await self._wish()
            if wish is not None and wish != passed and self._pass_on(wish, process):
                passed = wish
            await asyncio.sleep(self.settings.cancel_poll_seconds)

    def _pass_on(self, wish: Wish, process: asyncio.subprocess.Process) -> bool:
        """Tell the child; False where it would not understand yet."""
        with contextlib.suppress(ProcessLookupError):
            if wish == "stop":
                say(process, ENOUGH)
            elif wish == "pause" and self.ended is None:
                # Without a time limit: a step may take long, and nobody waits for the device.
                self.ended = "paused"
                process.terminate()
            elif wish == "cancel" and self.ended in (None, "paused"):
                self.ended = "cancelled"
                kill_group(process)
        return True

    async def _sweep_group(self, process: asyncio.subprocess.Process) -> None:
        """Kill what a child leaves behind when it ends: it would hold the pipes open."""
        while process.returncode is None:
            await asyncio.sleep(self.settings.cancel_poll_seconds)
        kill_group(process)

    async def _wish(self) -> Wish | None:
        return await read_wish(self.redis, run_id=self.command.run_id, attempt=self.command.attempt)

    async def _deliver(self) -> None:
        """Publish the end, for as long as it takes, unless the service itself stops: then the
        next attempt finds the result and says so."""
        while not await self.log.publish(self.redis) and not self.stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), RETRY_SECONDS)
        stage("worker_delivered", self.command.job_id)
