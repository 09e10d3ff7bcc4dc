"""Takes jobs from a queue by ARQ. Knows not what they are.

A new ARQ worker starts when Redis is back and the job under way is done.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

from arq.typing import WorkerCoroutine
from arq.worker import Worker, func

from shared.job_queue import connect, deserialize_job, serialize_job
from trainer_service.settings import TrainerSettings

log = logging.getLogger(__name__)

# A run may take weeks; ARQ's own time limits are of no use here.
JOB_SECONDS = 10 * 365 * 24 * 3600
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
