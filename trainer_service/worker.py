"""The ARQ workers: take jobs from the queues, one of each kind at a time, and have them done in
child processes.

They outlive Redis: supervision of a child is a task of its own, and a new ARQ worker starts when
Redis is back and the child is done.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

from arq.typing import WorkerCoroutine
from arq.worker import Worker, func
from pydantic import ValidationError
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
    connect,
    deserialize_job,
    keep_taken,
    say_gone,
    serialize_job,
)
from shared.preflight import PreflightCommand
from shared.runs import RunCommand
from shared.tasks import cancel_until_done
from trainer_service.announcing import keep_telling
from trainer_service.preflighting import Preflight
from trainer_service.preparing import Preparation, PrepareCommand
from trainer_service.settings import TrainerSettings
from trainer_service.spare import Spare
from trainer_service.supervisor import Supervisor
from trainer_service.telemetry import Figures

log = logging.getLogger(__name__)

# A run may take weeks; ARQ's own time limits are of no use here.
JOB_SECONDS = 10 * 365 * 24 * 3600
REDIS_SECONDS = 5.0
SHORT_PAUSE = 0.1
LONGEST_PAUSE = 5.0
# However short the settings: that a worker has a job is said again every third of this time.
SHORTEST_TAKEN_SECONDS = 1.0

Work = Coroutine[Any, Any, None]
Handler = Callable[[dict[str, Any], dict[str, Any]], Work]


def taken_seconds(settings: TrainerSettings) -> float:
    """How long a job counts as taken after its worker was last heard of. Then another worker takes
    it, and ARQ, which tries no job twice, takes it out of the queue with all that belongs to it.

    Longer than the gateway needs to give the worker up: a job that vanished before would be queued
    again under the same attempt, and the worker, if it was only frozen, would go on with it too.
    """
    given_up = settings.run_lost_seconds + 3 * settings.reconcile_seconds
    return max(given_up, SHORTEST_TAKEN_SECONDS)


class Listener:
    """Takes the jobs of one queue, one at a time, through any loss of Redis."""

    def __init__(
        self, settings: TrainerSettings, queue_name: str, handlers: Mapping[str, Handler]
    ) -> None:
        self.settings = settings
        self.queue_name = queue_name
        self.handlers = handlers
        self.listening = False
        self.stopping = False
        self._worker: Worker | None = None

    async def run(self) -> None:
        """Listen until `leave`."""
        pause = SHORT_PAUSE
        while not self.stopping:
            try:
                await self._listen()
                pause = SHORT_PAUSE
            except asyncio.CancelledError:
                # `leave` cancels ARQ's loop, and so this wait for it; anybody else means us.
                if not self.stopping:
                    raise
            except Exception as error:
                # Whatever ends an ARQ worker, Redis errors above all, must not end the service.
                log.warning("The queue %s is not reachable: %s", self.queue_name, error)
            if not self.stopping:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _listen(self) -> None:
        pool = await connect(self.settings.redis_url)
        worker = Worker(
            [
                func(cast(WorkerCoroutine, handler), name=name)
                for name, handler in self.handlers.items()
            ],
            queue_name=self.queue_name,
            redis_pool=pool,
            handle_signals=False,
            max_jobs=1,
            max_tries=1,
            retry_jobs=False,
            keep_result=0,
            job_timeout=JOB_SECONDS,
            poll_delay=self.settings.queue_poll_seconds,
            health_check_key=f"genplat:worker:{self.settings.worker_name}:{self.queue_name}",
            job_serializer=serialize_job,
            job_deserializer=deserialize_job,
            log_results=False,
        )
        # ARQ derives it from the longest job; a worker may be killed before it says otherwise.
        worker.in_progress_timeout_s = taken_seconds(self.settings)
        self._worker = worker
        self.listening = True
        try:
            # A stop may have come while Redis was waited for.
            if not self.stopping:
                await worker.async_run()
        finally:
            self.listening = False
            self._worker = None
            # A new worker would take a second job while the device is still busy.
            await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
            with contextlib.suppress(Exception):
                await pool.aclose(close_connection_pool=True)

    def take_no_more(self) -> None:
        """Leave the jobs that wait to others."""
        self.stopping = True
        if self._worker is not None:
            self._worker.allow_pick_jobs = False

    async def leave(self) -> None:
        """Wait for the job under way, and end `run`."""
        self.take_no_more()
        worker = self._worker
        if worker is not None:
            await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
            if worker.main_task is not None:
                worker.main_task.cancel()


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
        try:
            command = RunCommand.model_validate(payload)
        except ValidationError as error:
            log.error("A run's command makes no sense and is left: %s", error)
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
        try:
            command = PrepareCommand.model_validate(payload)
        except ValidationError as error:
            log.error("A command to prepare a model makes no sense and is left: %s", error)
            return
        preparation = Preparation(command, settings=self.settings)
        await self._apart(context["job_id"], self._prepare_to_end(preparation))

    async def _check(self, context: dict[str, Any], payload: dict[str, Any]) -> None:
        try:
            command = PreflightCommand.model_validate(payload)
        except ValidationError as error:
            log.error("A command to check a run makes no sense and is left: %s", error)
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
