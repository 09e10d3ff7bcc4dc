"""Works on rows under leases for as long as the gateway runs. After a stop, here or anywhere,
others go on. Knows nothing of what the work is."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic

from sqlalchemy.exc import NoResultFound, SQLAlchemyError

from gateway.answering import AnswersEnded
from gateway.database import Database
from gateway.leases import Held, Kind, Lease, LeaseLost, claim
from shared.errors import GenPlatError
from shared.tasks import cancel_until_done

log = logging.getLogger(__name__)

# Owners take turns: so many of the last ones count.
_REMEMBERED = 32


@dataclass(frozen=True)
class Worker(Generic[Held]):
    """Brings rows of a ``kind`` to their ends by ``work``, one after the other. It looks for them
    when ``wanted`` is set, and every ``look_seconds``: for those of a gateway that died."""

    database: Database
    kind: Kind[Held]
    work: Callable[[Lease[Held]], Awaitable[None]]
    wanted: asyncio.Event
    lease_seconds: float
    look_seconds: float

    async def run(self) -> None:
        """For ever."""
        served: deque[str] = deque(maxlen=_REMEMBERED)
        while True:
            self.wanted.clear()
            lease = await self._claimed(list(served))
            if lease is not None:
                served.append(lease.owner)
                await self._bring_to_an_end(lease)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.look_seconds):
                    await self.wanted.wait()

    async def _claimed(self, served: list[str]) -> Lease[Held] | None:
        """None where the database is away, too."""
        seconds = self.lease_seconds
        try:
            return await asyncio.to_thread(
                claim, self.database, self.kind, seconds=seconds, served=served
            )
        except SQLAlchemyError as error:
            log.warning("No work can be looked for: %s", type(error).__name__)
            return None

    async def _bring_to_an_end(self, lease: Lease[Held]) -> None:
        """Unless somebody takes it away. Its trouble keeps no other row from being worked on."""
        what = f"{self.kind.table.__name__} {lease.id}"
        try:
            await _while_held(lease, self.work(lease))
        except (LeaseLost, NoResultFound):
            log.info("%s was cancelled, or is somebody else's.", what)
        except AnswersEnded as error:
            await _fail(lease, "answers_ended", str(error))
        except GenPlatError as error:
            await _fail(lease, error.code, error.message)
        except asyncio.CancelledError:
            # (Nothing to release where it has ended.)
            with contextlib.suppress(LeaseLost, SQLAlchemyError):
                await asyncio.to_thread(lease.release)
            raise
        except Exception:
            # Its lease lapses, which is counted: it is not tried again at once, nor for ever.
            log.exception("%s failed; it is tried again.", what)


async def _while_held(lease: Lease[Held], work: Awaitable[None]) -> None:
    """`LeaseLost` where the lease ends before the work."""
    doing, renewing = asyncio.ensure_future(work), asyncio.create_task(_renewed(lease))
    try:
        await asyncio.wait({doing, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise LeaseLost
        doing.result()
    finally:
        await cancel_until_done([doing, renewing])


async def _renewed(lease: Lease[Held]) -> None:
    """Until it is lost."""
    while True:
        await asyncio.sleep(lease.seconds / 6)
        try:
            await asyncio.to_thread(lease.renew)
        except LeaseLost:
            return
        except SQLAlchemyError as error:
            # (What is written asks for the lease again: a database that is away does no harm.)
            log.warning("A lease could not be renewed yet: %s", type(error).__name__)


async def _fail(lease: Lease[Held], code: str, message: str) -> None:
    # (Of what cannot be written now, the lease lapses.)
    with contextlib.suppress(LeaseLost, SQLAlchemyError):
        await asyncio.to_thread(lease.fail, code, message)
