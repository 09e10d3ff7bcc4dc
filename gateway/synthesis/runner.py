"""Works on syntheses, one after the other, as long as the gateway runs."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from gateway.durable_work import Worker
from gateway.evaluations.asked_here import AskedHere
from gateway.evaluations.candidates import resolve
from gateway.leases import Lease
from gateway.services import Services
from gateway.synthesis.recording import SYNTHESES, Recorded, review
from gateway.synthesis.sources import read_sources
from gateway.synthesis.spec import SynthesisSpec
from gateway.synthesis.work import Body, Parts, Row, produce
from gateway.tables import Synthesis


async def run_syntheses(services: Services) -> None:
    """For ever; syntheses of a gateway that died are found by looking now and then."""
    settings = services.settings
    await Worker(
        services.database,
        SYNTHESES,
        work=partial(_work, services),
        wanted=services.synthesis_wanted,
        lease_seconds=settings.synthesis_lease_seconds,
        look_seconds=settings.reconcile_seconds,
    ).run()


async def _work(services: Services, lease: Lease[Synthesis]) -> None:
    spec = await asyncio.to_thread(_read, lease)
    sources = await asyncio.to_thread(read_sources, services, lease.owner, spec)
    parts = await asyncio.to_thread(_parts, services, lease.owner, spec)
    rows = await produce(sources.plan, parts, Recorded(lease))
    if any(row.kept for row in rows):
        await asyncio.to_thread(review, lease)
    else:
        await asyncio.to_thread(lease.fail, "nothing_kept", _nothing_kept(rows))


def _read(lease: Lease[Synthesis]) -> SynthesisSpec:
    with lease.database.read() as session:
        return SynthesisSpec.model_validate(session.get_one(Synthesis, lease.id).spec)


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
