"""The gateway's work on batches: takes those that wait, a few at a time, for as long as it runs."""

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy.exc import SQLAlchemyError

from gateway.batches import files
from gateway.batches.leases import Lease, LeaseLost, claim
from gateway.batches.work import work_on
from gateway.services import Services
from shared.errors import GenPlatError
from shared.tasks import cancel_until_done

log = logging.getLogger(__name__)

# Those of an owner whose model is away hold their places for hours: others keep theirs.
BATCHES_AT_ONCE, OF_EACH_OWNER = 16, 4
POLL_SECONDS = 1.0
TIDY_EVERY_SECONDS = 600.0
# Where the engine cannot be asked.
_USUAL_CAPACITY = 8


@dataclass(frozen=True)
class Room:
    """Places for requests that several batches share: ``width`` of them."""

    width: int

    @cached_property
    def slots(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(self.width)


async def run_batches(services: Services) -> None:
    """Work on batches for ever. Of a gateway that stops, others go on with what it leaves."""
    room: Room | None = None
    running: dict[asyncio.Task[None], Lease] = {}
    tidied = float("-inf")
    try:
        while True:
            services.batch_wanted.clear()
            while len(running) < BATCHES_AT_ONCE and (lease := await _claimed(services, running)):
                # (The inference service may start after its gateway.)
                room = room or await _known_room(services)
                task = asyncio.create_task(
                    _work(services, lease, room or Room(_USUAL_CAPACITY // 2))
                )
                running[task] = lease
                task.add_done_callback(lambda _: services.batch_wanted.set())
            if time.monotonic() - tidied > TIDY_EVERY_SECONDS:
                tidied = time.monotonic()
                await _tidied(services)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await services.batch_wanted.wait()
            running = {task: lease for task, lease in running.items() if not task.done()}
    finally:
        await cancel_until_done(running)


async def _known_room(services: Services) -> Room | None:
    """Half of the engine's places, so that the others stay free for those who wait at a screen;
    None while it cannot be asked."""
    if services.settings.batch_concurrency:
        return Room(services.settings.batch_concurrency)
    try:
        return Room(max(1, await services.inference.capacity() // 2))
    except (GenPlatError, KeyError, ValueError):
        return None


async def _claimed(services: Services, running: "dict[asyncio.Task[None], Lease]") -> Lease | None:
    """None where the database is away, too: those who work wait for it by themselves."""
    try:
        return await asyncio.to_thread(
            claim,
            services.database,
            seconds=services.settings.batch_lease_seconds,
            busy=[lease.owner for lease in running.values()],
            of_each=OF_EACH_OWNER,
        )
    except SQLAlchemyError as error:
        log.warning("No batch can be looked for: %s", type(error).__name__)
        return None


async def _tidied(services: Services) -> None:
    try:
        await asyncio.to_thread(files.remove_expired, services.database, services.storage)
    except (SQLAlchemyError, OSError):
        log.exception("What has expired could not be removed.")


async def _work(services: Services, lease: Lease, room: Room) -> None:
    """Work on one batch. Its trouble keeps no other from being worked on; it is tried again."""
    try:
        await work_on(services, lease, room.slots, room.width)
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
