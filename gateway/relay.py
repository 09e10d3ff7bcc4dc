"""Streamed answers: passed on event by event, and gone on with by another model where they break
off. Knows no HTTP of the client's side."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from gateway import upstream_drawing
from gateway.completion_requests import (
    Request,
    asker_of,
    body_of,
    continued,
    draws_diagram,
    kind_of,
    path_of,
)
from gateway.orchestrator.drills import EVENTS_BEFORE, STALL_SECONDS, Fault, made_error
from gateway.orchestrator.plans import Target
from gateway.orchestrator.transcript import (
    DONE,
    Said,
    Transcript,
    WholeEvents,
    before_done,
    error_in,
    rewritten,
)
from gateway.orchestrator.upstreams import Upstream
from gateway.request_log.entries import NOWHERE, Entry, Origin
from gateway.services import Services
from gateway.serving import Served, ask_in_turn, failed, offer_to_shadow, plan_for, serve
from shared.chat import ChatRequest
from shared.errors import GenPlatError, InvalidRequest, Unavailable, UpstreamFailed

log = logging.getLogger(__name__)

# What `gateway.stopping` says.
STOPPING = "stopping"
# Behind `[DONE]` comes the end of the body, mostly in the same packet.
END_SECONDS = 0.05

Events = AsyncGenerator[bytes, None]


@dataclass(frozen=True)
class Speaking:
    """A target that has begun to answer; whoever holds it closes its events."""

    target: Target
    events: Events


async def open_stream(
    *, services: Services, owner: str, request: Request, origin: Origin = NOWHERE
) -> tuple[dict[str, str], Events]:
    """The headers and the events of a streamed answer. It returns after the first event came."""
    body = body_of(request) | {"stream": True}

    async def ask(target: Target) -> Speaking:
        return await _begin(services, target, path_of(request), body, request.model)

    with services.log.begun(owner, request, origin) as entry:
        plan = await plan_for(
            services=services, owner=owner, model=request.model, asker=asker_of(request)
        )
        entry.planned(plan)
        served = await serve(services=services, owner=owner, plan=plan, ask=ask)
        entry.served(served.target.label, served.fallbacks, served.reason)
        entry.first_token_seconds = entry.passed()
    relay = _Relay(services, owner, request, body, served, entry)
    return served.headers | entry.headers, relay.events()


async def _begin(
    services: Services, target: Target, path: str, body: dict[str, Any], served_as: str
) -> Speaking:
    """Ask a target, and wait for its first event: until then its refusal has a status."""
    if target.fault in ("429", "500"):
        raise made_error(target.fault)
    events = _events(services, target, path, body, served_as)
    if target.fault is not None:
        events = _drilled(events, target.fault)
    try:
        first = await anext(events, None)
    except BaseException:
        await events.aclose()
        raise
    if first is None:
        raise UpstreamFailed("The model's answer ended before it began.", code="stream_cut")
    return Speaking(target, _behind(first, events))


async def _behind(first: bytes, rest: Events) -> Events:
    async with aclosing(rest):
        yield first
        async for events in rest:
            yield events


async def _events(
    services: Services, target: Target, path: str, body: dict[str, Any], served_as: str
) -> Events:
    """Whole events up to, and without, `[DONE]`. Named errors where the answer breaks off."""
    chunks, close = await _connect(services, target, path, body, served_as)
    whole = WholeEvents()
    try:
        async for chunk in chunks:
            events = whole.add(chunk)
            if not events:
                continue
            if (said := error_in(events)) is not None:
                raise UpstreamFailed(f"The answer broke off: {said}", code="stream_failed")
            if (last := before_done(events)) is not None:
                if last:
                    yield last
                await _read_to_its_end(chunks)
                return
            yield events
    finally:
        await close()
    raise UpstreamFailed("The model's answer broke off.", code="stream_cut")


async def _read_to_its_end(chunks: AsyncIterator[bytes]) -> None:
    """A connection with nothing left in it can be used for the next request."""
    with contextlib.suppress(TimeoutError, GenPlatError):
        async with asyncio.timeout(END_SECONDS):
            async for _ in chunks:
                pass


async def _connect(
    services: Services, target: Target, path: str, body: dict[str, Any], served_as: str
) -> tuple[AsyncIterator[bytes], Callable[[], Awaitable[None]]]:
    if target.upstream is not None and "diagram" in body:
        drawing = _drawing(services, target.upstream, ChatRequest.model_validate(body))
        return drawing, drawing.aclose
    if target.upstream is not None:
        upstream = await services.upstreams.stream(target.upstream, path, body)
        return upstream.chunks(), upstream.aclose
    own = body | {"model": target.engine_name}
    inference = await services.inference.stream(path, own, served_as=served_as)
    return inference.chunks(), inference.aclose


async def _drawing(services: Services, upstream: Upstream, request: ChatRequest) -> Events:
    answer = await upstream_drawing.draw(
        upstreams=services.upstreams,
        inference=services.inference,
        upstream=upstream,
        request=request,
    )
    chunk = upstream_drawing.as_chunk(answer | {"model": request.model})
    yield b"data: " + json.dumps(chunk).encode() + b"\n\n" + DONE


async def _drilled(events: Events, fault: Fault) -> Events:
    """The answer of somebody who breaks off, or falls silent, after some words."""
    left = EVENTS_BEFORE
    async with aclosing(events):
        async for several in events:
            for event in several.split(b"\n\n")[:-1]:
                if not left:
                    if fault == "stall":
                        await asyncio.sleep(STALL_SECONDS)
                    raise made_error(fault)
                left -= 1
                yield event + b"\n\n"


class _Relay:
    """One answer on its way to its reader."""

    def __init__(
        self,
        services: Services,
        owner: str,
        request: Request,
        body: dict[str, Any],
        served: Served[Speaking],
        entry: Entry,
    ) -> None:
        self.services, self.owner, self.request, self.body = services, owner, request, body
        self.speaking, self.plan, self.others = served.result, served.plan, served.others
        self.kind = kind_of(request)
        self.entry, self.transcript = entry, Transcript(self.kind)
        entry.transcript = self.transcript
        # What those who spoke before have said, once somebody has stepped in.
        self.before: Said | None = None

    async def events(self) -> Events:
        """Whole events, then one `[DONE]`; where nobody can go on, an error event instead."""
        try:
            while True:
                trouble = None
                try:
                    async for events in self._heard():
                        yield events
                except GenPlatError as error:
                    trouble = error
                self._tell_breaker(trouble)
                said = self.transcript.read() if trouble else None
                if trouble is None or said is None or said.closed:
                    yield DONE
                    return
                log.warning("%s broke off: %s", self.speaking.target.label, trouble.message)
                if trouble.code == STOPPING or not await self._somebody_goes_on(said):
                    self.entry.failed(trouble)
                    yield broken_off(trouble)
                    return
                # (The code stays in the log, so that one can tell a drill from an outage.)
                self.entry.continued_by = self.speaking.target.label
                self.entry.error_code = trouble.code
                yield _announced(self.speaking.target, trouble)
        except (GeneratorExit, asyncio.CancelledError) as gone:
            self.services.breakers.of(self.speaking.target.label).left()
            self.entry.failed(gone)
            raise
        finally:
            self.services.log.add(self.entry)
            offer_to_shadow(self.services, self.owner, self.plan, self.request, self.entry)
            await self.speaking.events.aclose()

    async def _heard(self) -> Events:
        source = self.speaking.events
        while True:
            async with self.services.stopping.breaks_off():
                events = await anext(source, None)
            if events is None:
                return
            if self.before is not None and self.before.head:
                events = rewritten(events, self.before, self.kind)
            if events:
                self.transcript.add(events)
                yield events

    def _tell_breaker(self, trouble: GenPlatError | None) -> None:
        if trouble is None:
            self.services.breakers.of(self.speaking.target.label).succeeded()
        elif trouble.code != STOPPING:
            failed(self.services, self.speaking.target, trouble)

    async def _somebody_goes_on(self, said: Said) -> bool:
        """Whether another target has begun with the rest of the answer."""
        await self.speaking.events.aclose()
        able = tuple(target for target in self.others if _can_continue(target))
        if not able or said.odd or draws_diagram(self.request):
            return False
        body = continued(self.body, said, self.kind)

        async def ask(target: Target) -> Speaking:
            try:
                model = self.request.model
                return await _begin(self.services, target, path_of(self.request), body, model)
            except InvalidRequest as refusal:
                # The same words were good enough for the first one.
                raise Unavailable(refusal.message, code="cannot_continue") from refusal

        try:
            answered = await ask_in_turn(
                services=self.services, owner=self.owner, targets=able, ask=ask
            )
        except GenPlatError as trouble:
            log.warning("Nobody goes on with an answer that broke off: %s", trouble.message)
            return False
        self.speaking, self.before = answered.result, said
        self.others = self.others[self.others.index(answered.target) + 1 :]
        return True


def _can_continue(target: Target) -> bool:
    return target.upstream is None or target.upstream.continues


def _announced(target: Target, error: GenPlatError) -> bytes:
    """A comment in the stream, which clients pass over and people see."""
    return f": genplat: {target.label} goes on ({error.code})\n\n".encode()


def broken_off(error: GenPlatError) -> bytes:
    """The event that stands in place of an answer's rest."""
    return b"data: " + json.dumps(error.body(), separators=(",", ":")).encode() + b"\n\n"
