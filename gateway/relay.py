"""Streamed answers: passed on event by event, and gone on with by another model where they break
off. Knows no HTTP of the client's side."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace

from gateway.closing import Stream
from gateway.completion_requests import (
    Request,
    asker_of,
    body_of,
    continued,
    draws_diagram,
    kind_of,
)
from gateway.orchestrator.answer_reader import DONE, Piece, event_of
from gateway.orchestrator.plans import Target
from gateway.orchestrator.transcript import Said, closing, counted, rewritten
from gateway.request_log.entries import NOWHERE, Entry, Origin
from gateway.services import Services
from gateway.serving import (
    Served,
    able_to_answer,
    ask_in_turn,
    failed,
    offer_to_shadow,
    plan_for,
    serve,
)
from gateway.speaking import Question, Speaking, begin
from gateway.token_counts import tokens_of
from shared.errors import GenPlatError, InvalidRequest, TimedOut, Unavailable, UpstreamFailed

log = logging.getLogger(__name__)

# What `gateway.stopping` says.
STOPPING = "stopping"
# Of one answer: as much as may be sent in one piece.
MAX_CHARACTERS = 32 * 1024 * 1024


async def open_stream(
    *, services: Services, owner: str, request: Request, origin: Origin = NOWHERE
) -> tuple[dict[str, str], Stream]:
    """The headers and the events of a streamed answer. It returns after the first event came."""
    question = Question(services, request, body_of(request) | {"stream": True})

    async def ask(target: Target) -> Speaking:
        return await begin(question, target)

    with services.log.begun(owner, request, origin) as entry:
        plan = await plan_for(
            services=services, owner=owner, model=request.model, asker=asker_of(request)
        )
        entry.planned(plan)
        plan = able_to_answer(plan, request)
        served = await serve(services=services, owner=owner, plan=plan, ask=ask)
        entry.served(served.target.label, served.fallbacks, served.reason)
        entry.first_token_seconds = entry.passed()
    relay = _Relay(question, owner, served, entry)
    return served.headers | entry.headers, Stream(relay.events(), relay.end)


class _Relay:
    """One answer on its way to its reader."""

    def __init__(
        self, question: Question, owner: str, served: Served[Speaking], entry: Entry
    ) -> None:
        self.services, self.question, self.owner = question.services, question, owner
        self.plan, self.entry = served.plan, entry
        self.speaking, self.visit, self.others = served.result, served.visit, served.others
        self.said = entry.said = Said(kind_of(question.request))
        # Tokens of those who spoke before, once somebody has stepped in.
        self.written: int | None = None
        self.until = self._silent_until()
        # Unless it comes to an end, its reader has left.
        self.failure: BaseException | None = asyncio.CancelledError()

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Whole events, then one `[DONE]`; where nobody can go on, an error event instead."""
        try:
            while True:
                try:
                    while (piece := await self._next()) is not None:
                        yield piece.raw
                    self.visit.succeeded()
                    break
                except GenPlatError as error:
                    trouble = error
                self._tell_breaker(trouble)
                if not self.said.closed:
                    log.warning("%s broke off: %s", self.speaking.target.label, trouble.message)
                if self.said.closed or self._has_written_all():
                    for piece in self._ending():
                        yield self._heard(piece).raw
                    break
                if trouble.code == STOPPING or not await self._somebody_goes_on():
                    self.failure = trouble
                    yield broken_off(trouble)
                    return
                self.entry.continued(self.speaking.target.label, trouble.code)
                yield _announced(self.speaking.target, trouble)
            self.failure = None
            yield DONE
        except Exception as fault:
            self.failure = fault
            raise

    async def end(self) -> None:
        """Once, whether the answer was read to its end, in part or not at all."""
        if self.failure is not None:
            self.visit.left()
            self.entry.failed(self.failure)
        self.services.log.add(self.entry)
        offer_to_shadow(self.services, self.owner, self.plan, self.question.request, self.entry)
        await self.speaking.pieces.aclose()

    async def _next(self) -> Piece | None:
        """What is passed on next; None at the end."""
        while True:
            try:
                async with self.services.stopping.breaks_off(), asyncio.timeout_at(self.until):
                    piece = await anext(self.speaking.pieces, None)
            except TimeoutError as error:
                raise TimedOut(
                    f"{self.speaking.target.label} fell silent.", code="target_timeout"
                ) from error
            if piece is None:
                return None
            if piece.says:
                self.until = self._silent_until()
            if self.written is not None and self.said.head:
                piece = rewritten(piece, self.said, written=self.written)
            if piece.raw:
                return self._heard(piece)

    def _heard(self, piece: Piece) -> Piece:
        self.said.hear(piece.events)
        if self.said.size > MAX_CHARACTERS:
            raise UpstreamFailed("The model's answer has no end.", code="upstream_too_long")
        return piece

    def _silent_until(self) -> float | None:
        """The moment at which somebody else goes on; whoever is the last one has as long as it
        takes."""
        seconds = self.speaking.target.timeout_seconds
        if seconds is None or not self.others:
            return None
        return asyncio.get_running_loop().time() + seconds

    def _tell_breaker(self, trouble: GenPlatError) -> None:
        if trouble.code == STOPPING:
            self.visit.left()
        else:
            failed(self.visit, self.speaking.target, trouble)

    def _has_written_all(self) -> bool:
        """Whether all that may be written was written, though nobody said so."""
        most = self.question.request.new_token_limit
        return most is not None and bool(self.said.head) and self.said.tokens >= most

    def _ending(self) -> Iterator[Piece]:
        """What an answer that is whole still lacks before its end mark."""
        request = self.question.request
        if not self.said.closed:
            yield closing(self.said)
        asked = request.stream_options is not None and request.stream_options.include_usage
        if asked and self.said.usage is None:
            read, _ = tokens_of(request)
            written = min(self.said.tokens, request.new_token_limit or self.said.tokens)
            yield counted(self.said, read=read, written=written)

    def _can_go_on(self, target: Target) -> bool:
        """What has not said a word yet anybody can begin again."""
        if self.said.odd:
            return False
        if not self.said.pieces:
            return not self.question.body.get("continue_final_message") or target.continues
        return target.continues and not draws_diagram(self.question.request)

    async def _somebody_goes_on(self) -> bool:
        """Whether another target has begun with the rest of the answer."""
        await self.speaking.pieces.aclose()
        able = tuple(target for target in self.others if self._can_go_on(target))
        if not able:
            return False
        body = continued(self.question.body, self.said)
        question = replace(self.question, body=body)

        async def ask(target: Target) -> Speaking:
            try:
                return await begin(question, target)
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
        self.written = self.said.tokens
        self.speaking, self.visit = answered.result, answered.visit
        self.others = answered.others
        self.until = self._silent_until()
        return True


def _announced(target: Target, error: GenPlatError) -> bytes:
    """A comment in the stream, which clients pass over and people see."""
    return f": genplat: {target.label} goes on ({error.code})\n\n".encode()


def broken_off(error: GenPlatError) -> bytes:
    """The event that stands in place of an answer's rest."""
    return event_of(error.body())
