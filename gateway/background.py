"""The tasks that run as long as the gateway does; each outlives what it did not foresee."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from gateway import keys, library
from gateway.batches.runner import run_batches
from gateway.evaluations.runner import run_evaluations
from gateway.loops.worker import run_loops
from gateway.orchestrator.experiments.judging import run_judges
from gateway.orchestrator.experiments.watch import run_experiments
from gateway.orchestrator.readiness_reports import run_readiness
from gateway.orchestrator.shadow_work import run_shadows
from gateway.projector import run_projector
from gateway.reconciler import run_reconciler
from gateway.request_log.retention import forget_old_requests
from gateway.services import Services
from gateway.synthesis.runner import run_syntheses
from shared.errors import Unavailable
from shared.model_library import BUNDLED_MODEL
from shared.tasks import cancel_until_done

log = logging.getLogger(__name__)

RESTART_SECONDS = 1.0

Work = Callable[[Services], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    works: tuple[Work, ...] = (
        run_projector,
        run_reconciler,
        run_evaluations,
        run_syntheses,
        run_loops,
        prepare_bundled_model,
        write_request_log,
        forget_old_requests,
        run_batches,
        run_experiments,
        run_judges,
        run_readiness,
        run_shadows,
    )
    tasks = [asyncio.create_task(_kept_going(work, services)) for work in works]
    try:
        yield
    finally:
        await cancel_until_done(tasks)
        await services.log.flush()


async def _kept_going(work: Work, services: Services) -> None:
    while True:
        try:
            await work(services)
            return
        except Exception:
            log.exception("%s failed; it starts again.", work.__name__)
            await asyncio.sleep(RESTART_SECONDS)


async def prepare_bundled_model(services: Services) -> None:
    """At the first start, ask for the bundled model as soon as the queue can be reached."""
    while services.settings.prepare_bundled_model:
        try:
            await library.prepare(
                database=services.database,
                storage=services.storage,
                queue=services.queue,
                owner=keys.ADMIN_OWNER,
                model_id=BUNDLED_MODEL,
            )
            return
        except Unavailable:
            await asyncio.sleep(RESTART_SECONDS)


async def write_request_log(services: Services) -> None:
    await services.log.run()
