"""The worker of a device: has the jobs of the queues done in child processes, one of each kind at a
time. It outlives Redis: supervision of a child is a task of its own.
"""

import asyncio
import contextlib
import logging
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import request_id
from shared.chaos import stage
from shared.job_queue import (
    PREFLIGHT,
    PREPARE_BASE_MODEL,
    PREPARE_QUEUE_NAME,
    QUEUE_NAME,
    TRAIN_RUN,
    keep_taken,
    say_gone,
)
from shared.preflight import PreflightCommand
from shared.runs import RunCommand
from shared.tasks import cancel_until_done
from trainer_service.announcing import keep_telling
from trainer_service.listening import Handler, Listener, Work, taken_seconds
from trainer_service.preflighting import Preflight
from trainer_service.preparing import Preparation, PrepareCommand
from trainer_service.settings import TrainerSettings
from trainer_service.spare import Spare
from trainer_service.supervisor import Supervisor
from trainer_service.telemetry import Figures

log = logging.getLogger(__name__)

REDIS_SECONDS = 5.0

Command = TypeVar("Command", bound=BaseModel)


def _read(shape: type[Command], payload: dict[str, Any]) -> Command | None:
    """A job's command; None, and a line in the log, where somebody else has queued what is none."""
    try:
        return shape.model_validate(payload)
    except ValidationError as error:
        log.error("A job's command makes no sense and is left: %s", error)
        return None


class TrainerWorker:
    """The worker of one device: trains one run at a time, and prepares base models and checks what
    runs would need beside it."""

    def __init__(self, settings: TrainerSettings) -> None:
        self.settings = settings
        # Events and cancels: times out, so that a Redis that hangs looks like one that is away.
        self.redis: Redis = Redis.from_url(
            settings.redis_url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
        )
        self.supervisor: Supervisor | None = None
        self.preparations: set[Preparation | Preflight] = set()
        prepare: dict[str, Handler] = {PREPARE_BASE_MODEL: self._prepare}
        self.listeners = (
            # Preparations too: gateways used to queue them among the runs.
            Listener(settings, QUEUE_NAME, {TRAIN_RUN: self._train} | prepare),
            Listener(settings, PREPARE_QUEUE_NAME, prepare | {PREFLIGHT: self._check}),
        )
        self.spare = Spare(wanted=settings.keep_child_ready)
        self.stopping = False
        self.figures = Figures()
        self._work: set[asyncio.Task[None]] = set()

    @property
    def listening(self) -> bool:
        """Whether jobs of every kind would be taken."""
        return all(listener.listening for listener in self.listeners)

    async def run(self) -> None:
        """Listen to the queues until `stop`, through any loss of Redis."""
        telling = asyncio.create_task(
            keep_telling(
                self.redis,
                self.settings.worker_name,
                every=self.settings.heartbeat_seconds,
                is_so=lambda: self.listening and not self.stopping,
            )
        )
        await self.spare.prepare()
        try:
            await asyncio.gather(*(listener.run() for listener in self.listeners))
        finally:
            await cancel_until_done([telling])
            await self.spare.drop()

    async def stop(self) -> None:
        """Take no more work, let the child save its checkpoint, say so, and leave the queues."""
        self.stopping = True
        for listener in self.listeners:
            listener.take_no_more()
        with contextlib.suppress(OSError, RedisError):
            await say_gone(self.redis, self.settings.worker_name)
        stops = [preparation.stop() for preparation in self.preparations]
        stops.append(self.spare.drop())
        if self.supervisor is not None:
            stops.append(self.supervisor.stop())
        await asyncio.gather(*stops)
        await asyncio.gather(*self._work, return_exceptions=True)
        for listener in self.listeners:
            await listener.leave()

    async def close(self) -> None:
        await self.redis.aclose()

    async def _train(self, context: dict[str, Any], payload: dict[str, Any]) -> None:
        command = _read(RunCommand, payload)
        if command is None:
            return
        await self._apart(context["job_id"], self._supervise(command))

    async def _supervise(self, command: RunCommand) -> None:
        request_id.go_on(command.request_id)
        stage("worker_took_run", command.job_id)
        try:
            self.supervisor = Supervisor(
                command,
                settings=self.settings,
                redis=self.redis,
                spare=self.spare,
                figures=self.figures,
            )
            if self.stopping:
                # `stop` looked for a supervisor before there was this one.
                await self.supervisor.stop()
            end = await self.supervisor.run()
        except (OSError, ValueError) as error:
            # Without heartbeats the gateway takes the run back.
            log.error("Run %s cannot be supervised: %s", command.run_id, error)
            return
        finally:
            self.supervisor = None
            self.figures.end()
            if not self.stopping:
                await self.spare.prepare()
        self.figures.ended[end.status] += 1

    async def _prepare(self, context: dict[str, Any], payload: dict[str, Any]) -> None:
        command = _read(PrepareCommand, payload)
        if command is None:
            return
        preparation = Preparation(command, settings=self.settings)
        await self._apart(context["job_id"], self._prepare_to_end(preparation))

    async def _check(self, context: dict[str, Any], payload: dict[str, Any]) -> None:
        command = _read(PreflightCommand, payload)
        if command is None:
            return
        check = Preflight(command, busy=self.supervisor is not None, settings=self.settings)
        await self._apart(context["job_id"], self._prepare_to_end(check))

    async def _prepare_to_end(self, preparation: Preparation | Preflight) -> None:
        request_id.go_on(preparation.request_id)
        self.preparations.add(preparation)
        try:
            if self.stopping:
                await preparation.stop()
            await preparation.run()
        except OSError as error:
            # No child, or a full disk: the gateway sees that the job is gone without a result.
            log.error("A preparation could not be made: %s", error)
        finally:
            self.preparations.discard(preparation)

    async def _apart(self, job_id: str, work: Work) -> None:
        """Do ``work`` in a task that ARQ cannot cancel, and say all the while that it is done."""
        task = asyncio.create_task(self._kept(job_id, work))
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        await asyncio.shield(task)

    async def _kept(self, job_id: str, work: Work) -> None:
        keeper = asyncio.create_task(self._keep_taken(job_id))
        try:
            await work
        finally:
            await cancel_until_done([keeper])

    async def _keep_taken(self, job_id: str) -> None:
        seconds = taken_seconds(self.settings)
        while True:
            with contextlib.suppress(OSError, RedisError):
                await keep_taken(self.redis, job_id, seconds=seconds)
            await asyncio.sleep(seconds / 3)
