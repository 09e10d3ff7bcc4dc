"""Works on syntheses, one after the other, as long as the gateway runs."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable

from sqlalchemy.exc import SQLAlchemyError

from gateway.answering import AnswersEnded
from gateway.evaluations.asked_here import AskedHere
from gateway.evaluations.candidates import resolve
from gateway.services import Services
from gateway.synthesis.leases import Lease, LeaseLost, claim_next
from gateway.synthesis.sources import read_sources
from gateway.synthesis.spec import SynthesisSpec
from gateway.synthesis.work import Body, Parts, Row, produce
from gateway.tables import Synthesis
from shared.errors import GenPlatError
from shared.tasks import cancel_until_done

log = logging.getLogger(__name__)


async def run_syntheses(services: Services) -> None:
    """For ever; syntheses of a gateway that died are found by looking now and then."""
    holder = secrets.token_hex(8)
    settings = services.settings
    while True:
        services.synthesis_wanted.clear()
        lease = await asyncio.to_thread(
            claim_next,
            services.database,
            holder=holder,
            seconds=settings.synthesis_lease_seconds,
        )
        if lease is not None:
            await work_on(services, lease)
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.reconcile_seconds):
                await services.synthesis_wanted.wait()


async def work_on(services: Services, lease: Lease) -> None:
    """Bring one synthesis to its review, unless somebody takes it away."""
    work = asyncio.create_task(_work(services, lease))
    renewing = asyncio.create_task(_renewed(lease))
    try:
        await asyncio.wait({work, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            log.info("The synthesis %s was cancelled, or is somebody else's.", lease.synthesis_id)
    finally:
        await cancel_until_done([work, renewing])
        # (Nothing to release where it has ended.)
        with contextlib.suppress(LeaseLost, SQLAlchemyError):
            await asyncio.to_thread(lease.release)
    if work.done() and not work.cancelled():
        work.result()


async def _renewed(lease: Lease) -> None:
    """Until it is lost."""
    while True:
        await asyncio.sleep(lease.seconds / 6)
        try:
            await asyncio.to_thread(lease.renew)
        except LeaseLost:
            return
        except SQLAlchemyError as error:
            log.warning("A lease could not be renewed yet: %s", type(error).__name__)


async def _work(services: Services, lease: Lease) -> None:
    try:
        owner, spec = await asyncio.to_thread(_read, services, lease)
        sources = await asyncio.to_thread(read_sources, services, owner, spec)
        parts = await asyncio.to_thread(_parts, services, owner, spec)
        rows = await produce(sources.plan, parts, lease)
        if any(row.kept for row in rows):
            await asyncio.to_thread(lease.review)
        else:
            await asyncio.to_thread(lease.fail, "nothing_kept", _nothing_kept(rows))
    except LeaseLost:
        return
    except AnswersEnded as error:
        await _fail(lease, "answers_ended", str(error))
    except GenPlatError as error:
        await _fail(lease, error.code, error.message)


def _read(services: Services, lease: Lease) -> tuple[str, SynthesisSpec]:
    with services.database.read() as session:
        found = session.get_one(Synthesis, lease.synthesis_id)
        return found.owner, SynthesisSpec.model_validate(found.spec)


async def _fail(lease: Lease, code: str, message: str) -> None:
    with contextlib.suppress(LeaseLost):
        await asyncio.to_thread(lease.fail, code, message)


def _nothing_kept(rows: list[Row]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        if row.drop is not None:
            counts[row.drop.reason] = counts.get(row.drop.reason, 0) + 1
    said = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
    return (
        f"No row was kept of {len(rows):,} ({said}). Look at what was dropped; a stronger model or "
        "looser filters may help."
    )


def _parts(services: Services, owner: str, spec: SynthesisSpec) -> Parts:
    writer = _asker(services, owner, spec.model, "model")
    judge = _asker(services, owner, spec.judge, "judge") if spec.judge else None

    async def renders(source: str) -> str | None:
        drawn = await writer.renders(source)
        return None if drawn else "The diagram does not render."

    return Parts(
        generate=_asking(writer),
        judge=_asking(judge) if judge else None,
        renders=renders,
        at_once=services.settings.synthesis_requests,
    )


def _asker(services: Services, owner: str, model: str, param: str) -> AskedHere:
    return AskedHere(services, owner, resolve(services, owner, model, param=param))


def _asking(asker: AskedHere) -> Callable[[Body], Awaitable[Body]]:
    async def ask(body: Body) -> Body:
        answer, _ = await asker.answer(body)
        return answer

    return ask
