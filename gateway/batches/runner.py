"""The gateway's work on batches: takes those that wait, a few at a time, for as long as it runs."""

import asyncio
import contextlib
import logging
import time

from sqlalchemy.exc import SQLAlchemyError

from gateway.batches import files
from gateway.batches.leases import Lease, LeaseLost, claim
from gateway.batches.work import work_on
from gateway.services import Services
from shared.errors import GenPlatError
from shared.tasks import cancel_until_done

log = logging.getLogger(__name__)

BATCHES_AT_ONCE = 4
POLL_SECONDS = 1.0
TIDY_EVERY_SECONDS = 600.0
# Where the engine cannot be asked.
_USUAL_CAPACITY = 8


async def run_batches(services: Services) -> None:
    """Work on batches for ever. Of a gateway that stops, others go on with what it leaves."""
    width = services.settings.batch_concurrency or await _half_of_the_engine(services)
    slots = asyncio.Semaphore(width)
    running: dict[asyncio.Task[None], Lease] = {}
    tidied = float("-inf")
    try:
        while True:
            if time.monotonic() - tidied > TIDY_EVERY_SECONDS:
                tidied = time.monotonic()
                await asyncio.to_thread(files.remove_expired, services.database, services.storage)
            services.batch_wanted.clear()
            while len(running) < BATCHES_AT_ONCE and (lease := await _claimed(services, running)):
                task = asyncio.create_task(_work(services, lease, slots, width))
                running[task] = lease
                task.add_done_callback(lambda _: services.batch_wanted.set())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await services.batch_wanted.wait()
            running = {task: lease for task, lease in running.items() if not task.done()}
    finally:
        await cancel_until_done(running)


async def _half_of_the_engine(services: Services) -> int:
    """Places that batches may take; the others stay free for those who wait at a screen."""
    try:
        capacity = await services.inference.capacity()
    except (GenPlatError, KeyError):
        capacity = _USUAL_CAPACITY
    return max(1, capacity // 2)


async def _claimed(services: Services, running: "dict[asyncio.Task[None], Lease]") -> Lease | None:
    return await asyncio.to_thread(
        claim,
        services.database,
        seconds=services.settings.batch_lease_seconds,
        busy=[lease.owner for lease in running.values()],
    )


async def _work(services: Services, lease: Lease, slots: asyncio.Semaphore, width: int) -> None:
    """Work on one batch. Its trouble keeps no other from being worked on; it is tried again."""
    try:
        await work_on(services, lease, slots, width)
    except LeaseLost:
        log.warning("Batch %s: somebody else works on it by now.", lease.batch_id)
    except (SQLAlchemyError, GenPlatError, OSError) as error:
        log.warning("Batch %s waits: %s", lease.batch_id, str(error) or type(error).__name__)
        # (Its lease lapses: it is not tried again at once.)
    except Exception:
        log.exception("Batch %s failed; it is tried again.", lease.batch_id)
    except asyncio.CancelledError:
        with contextlib.suppress(SQLAlchemyError):
            await asyncio.to_thread(lease.release)
        raise
