"""Shadow traffic: what a reader has been answered is asked of another target too, in the
background, and its answer is logged beside the reader's.

It never delays or fails a reader: an offer is taken or dropped at once, few are asked at a time,
and what waits is lost when the gateway stops. Dropped offers are counted.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from gateway.completion_requests import Request, draws_diagram
from gateway.orchestrator.background_asking import Told, ask_in_background, cannot_be_asked
from gateway.orchestrator.plans import Shadow
from gateway.services import Services
from gateway.tables import LoggedRequest
from shared.chat import ChatRequest
from shared.tasks import cancel_until_done

log = logging.getLogger(__name__)

AT_ONCE = 2
WAITING = 32

# What became of an offer; asked ones end as answered or failed.
Fate = Literal["skipped", "cannot_draw", "resting", "busy", "answered", "failed", "unlogged"]
Record = Callable[[LoggedRequest], Awaitable[None]]


@dataclass(frozen=True)
class Offer:
    """A request that a reader has been answered. ``reader_id`` is its id in the request log;
    ``keeps_texts``: whether what was asked and answered may be logged."""

    owner: str
    route: str
    shadow: Shadow
    request: Request
    reader_id: str
    unit: str | None = None
    key_id: str | None = None
    keeps_texts: bool = True


class Shadows:
    """The shadows of one gateway. ``record`` logs a shadow's answer."""

    def __init__(
        self,
        services: Services,
        record: Record,
        *,
        at_once: int = AT_ONCE,
        waiting: int = WAITING,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._services, self._record = services, record
        self._at_once, self._draw = at_once, draw
        self._waiting: asyncio.Queue[Offer] = asyncio.Queue(waiting)
        self.counts: Counter[Fate] = Counter()

    def offer(self, offer: Offer) -> bool:
        """Whether the offer was taken. Never waits, never raises."""
        fate = self._refusal(offer)
        if fate is None:
            self._waiting.put_nowait(offer)
        else:
            self.counts[fate] += 1
        return fate is None

    def _refusal(self, offer: Offer) -> Fate | None:
        if self._draw() >= offer.shadow.share:
            return "skipped"
        if cannot_be_asked(offer.shadow.target, offer.request):
            return "cannot_draw"
        if self._waiting.full():
            return "busy"
        # Last, since what it admits may be the one that probes a target that failed.
        admits = self._services.breakers.of(offer.shadow.target.label).admits()
        return None if admits else "resting"

    async def run(self) -> None:
        """Ask for ever, a few at a time."""
        tasks = [asyncio.create_task(self._work()) for _ in range(self._at_once)]
        try:
            await asyncio.gather(*tasks)
        finally:
            await cancel_until_done(tasks)

    async def _work(self) -> None:
        while True:
            offer = await self._waiting.get()
            await self._ask(offer)

    async def _ask(self, offer: Offer) -> None:
        target = offer.shadow.target
        told = await ask_in_background(
            services=self._services, target=target, request=offer.request, name=offer.route
        )
        if told.status == 429 and target.upstream is None:
            self.counts["busy"] += 1
            return
        self.counts["answered" if told.answered else "failed"] += 1
        try:
            await self._record(as_logged(offer, told))
        except SQLAlchemyError as error:
            self.counts["unlogged"] += 1
            log.warning("A shadow's answer could not be logged: %s", error)


def as_logged(offer: Offer, told: Told) -> LoggedRequest:
    """The row that stands beside the reader's."""
    request = offer.request
    chat = isinstance(request, ChatRequest)
    kind = "diagram" if draws_diagram(request) else "chat" if chat else "completion"
    return LoggedRequest(
        owner=offer.owner,
        key_id=offer.key_id,
        kind=kind,
        model=offer.route,
        route=offer.route,
        served_by=offer.shadow.target.label,
        status=told.status,
        error_code=told.error_code,
        messages=_messages(request) if offer.keeps_texts else None,
        reply=told.reply if offer.keeps_texts else None,
        prompt_tokens=told.prompt_tokens,
        completion_tokens=told.completion_tokens,
        finish_reason=told.finish_reason,
        seconds=told.seconds,
        rendered=told.rendered,
        shadow_of=offer.reader_id,
        unit=offer.unit,
    )


def _messages(request: Request) -> list[dict[str, str]]:
    if isinstance(request, ChatRequest):
        return [{"role": message.role, "content": message.text} for message in request.messages]
    return [{"role": "user", "content": request.prompt}]
