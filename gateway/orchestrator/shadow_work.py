"""Asks the shadows of routes what their readers have been answered, a few at a time."""

import asyncio
from dataclasses import replace

from gateway.orchestrator.background_asking import Told, ask_in_background
from gateway.orchestrator.shadows import Offer
from gateway.request_log.entries import Entry
from gateway.services import Services
from shared.tasks import cancel_until_done

AT_ONCE = 2


async def run_shadows(services: Services, *, at_once: int = AT_ONCE) -> None:
    """Ask for ever."""
    tasks = [asyncio.create_task(_work(services)) for _ in range(at_once)]
    try:
        await asyncio.gather(*tasks)
    finally:
        await cancel_until_done(tasks)


async def _work(services: Services) -> None:
    while True:
        offer = await services.shadows.next()
        await _ask(services, offer)


async def _ask(services: Services, offer: Offer) -> None:
    target, counts = offer.shadow.target, services.shadows.counts
    told = await ask_in_background(
        services=services,
        target=target,
        request=offer.request,
        name=offer.route,
        visit=offer.visit,
    )
    if told.status == 429 and target.upstream is None:
        # Our own queue is full of readers: that says nothing of the model.
        counts["busy"] += 1
        return
    counts["answered" if told.answered else "failed"] += 1
    services.log.add(_entry(offer, told))


def _entry(offer: Offer, told: Told) -> Entry:
    """What stands beside the reader's request in the log."""
    return Entry(
        offer.owner,
        offer.request,
        replace(offer.origin, shadow_of=offer.reader_id),
        seconds=told.seconds,
        route=offer.route,
        served_by=offer.shadow.target.label,
        status=told.status,
        error_code=told.error_code,
        answer=told.answer,
    )
