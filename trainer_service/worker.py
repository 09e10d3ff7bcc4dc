"""The ARQ worker: takes one job at a time from the queue and has it done in a child process.

The loop outlives Redis: supervision of a child is a task of its own, and a new ARQ worker starts
when Redis is back and the child is done.
"""

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import Any, cast

from arq.typing import WorkerCoroutine
from arq.worker import Worker, func
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.asyncio import Redis

from shared.job_queue import (
    PREPARE_BASE_MODEL,
    QUEUE_NAME,
    TRAIN_RUN,
    connect,
    deserialize_job,
    serialize_job,
)
from shared.runs import RunCommand
from trainer_service.child_process import child_environment, start_module, stop_process
from trainer_service.settings import TrainerSettings
from trainer_service.supervisor import Supervisor

log = logging.getLogger(__name__)

# A run may take weeks; ARQ's own time limits are of no use here.
JOB_SECONDS = 10 * 365 * 24 * 3600
REDIS_SECONDS = 5.0
LONGEST_PAUSE = 5.0
OUTCOMES = ("succeeded", "failed", "cancelled", "preempted")


class PrepareCommand(BaseModel):
    """The payload of a `prepare_base_model` job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_id: str = Field(min_length=1, max_length=200)
    folder: Path | None = None


class TrainerWorker:
    """The worker of one device."""

    def __init__(self, settings: TrainerSettings) -> None:
        self.settings = settings
        # Events and cancels: times out, so that a Redis that hangs looks like one that is away.
        self.redis: Redis = Redis.from_url(
            settings.redis_url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
        )
        self.supervisor: Supervisor | None = None
        self.preparing: asyncio.subprocess.Process | None = None
        self.listening = False
        self.stopping = False
        self.finished_runs = dict[str, float].fromkeys(OUTCOMES, 0)
        self._work: set[asyncio.Task[Any]] = set()
        self._worker: Worker | None = None

    async def run(self) -> None:
        """Listen to the queue until `stop`, through any loss of Redis."""
        pause = 0.1
        while not self.stopping:
            try:
                await self._listen()
                pause = 0.1
            except asyncio.CancelledError:
                # `stop` cancels ARQ's loop, and so this wait for it; anybody else means us.
                if not self.stopping:
                    raise
            except Exception as error:
                # Whatever ends an ARQ worker, Redis errors above all, must not end the service.
                log.warning("The queue is not reachable: %s", error)
            if not self.stopping:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _listen(self) -> None:
        pool = await connect(self.settings.redis_url)
        worker = Worker(
            [
                func(cast(WorkerCoroutine, self._train), name=TRAIN_RUN),
                func(cast(WorkerCoroutine, self._prepare), name=PREPARE_BASE_MODEL),
            ],
            queue_name=QUEUE_NAME,
            redis_pool=pool,
            handle_signals=False,
            max_jobs=1,
            max_tries=1,
            retry_jobs=False,
            keep_result=0,
            job_timeout=JOB_SECONDS,
            poll_delay=self.settings.queue_poll_seconds,
            health_check_key=f"genplat:worker:{self.settings.worker_name}",
            job_serializer=serialize_job,
            job_deserializer=deserialize_job,
            log_results=False,
        )
        self._worker = worker
        self.listening = True
        try:
            await worker.async_run()
        finally:
            self.listening = False
            self._worker = None
            # A new worker would take a second run while the device is still busy.
            await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
            with contextlib.suppress(Exception):
                await pool.aclose(close_connection_pool=True)

    async def stop(self) -> None:
        """Take no more work, let the child save its checkpoint, say so, and leave the queue."""
        self.stopping = True
        worker = self._worker
        if worker is not None:
            worker.allow_pick_jobs = False
        if self.supervisor is not None:
            await self.supervisor.stop()
        if self.preparing is not None:
            await stop_process(self.preparing, grace_seconds=REDIS_SECONDS)
        await asyncio.gather(*self._work, return_exceptions=True)
        if worker is not None:
            await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
            if worker.main_task is not None:
                worker.main_task.cancel()

    async def close(self) -> None:
        await self.redis.aclose()

    async def _train(self, _context: dict[str, Any], payload: dict[str, Any]) -> None:
        try:
            command = RunCommand.model_validate(payload)
        except ValidationError as error:
            log.error("A run's command makes no sense and is left: %s", error)
            return
        await self._apart(self._supervise(command))

    async def _supervise(self, command: RunCommand) -> None:
        self.supervisor = Supervisor(command, settings=self.settings, redis=self.redis)
        try:
            end = await self.supervisor.run()
        except (OSError, ValueError) as error:
            # Nothing of the run can be written: without heartbeats the gateway takes it back.
            log.error("Run %s cannot be supervised: %s", command.run_id, error)
            return
        finally:
            self.supervisor = None
        self.finished_runs[end.status] += 1

    async def _prepare(self, _context: dict[str, Any], payload: dict[str, Any]) -> None:
        try:
            command = PrepareCommand.model_validate(payload)
        except ValidationError as error:
            log.error("A command to prepare a model makes no sense and is left: %s", error)
            return
        await self._apart(self._prepare_in_child(command))

    async def _prepare_in_child(self, command: PrepareCommand) -> None:
        arguments = ["--data-dir", str(self.settings.root)]
        if command.folder is not None:
            arguments += ["--folder", str(command.folder)]
        self.preparing = await start_module(
            "trainer_service.base_models",
            *arguments,
            "--",
            command.model_id,
            environment=child_environment(os.environ, "HF_TOKEN"),
            piped=False,
        )
        try:
            code = await self.preparing.wait()
        finally:
            self.preparing = None
        log.info("Preparing %s ended with code %d.", command.model_id, code)

    async def _apart(self, work: Any) -> None:
        """Do ``work`` in a task that ARQ cannot cancel."""
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        await asyncio.shield(task)
