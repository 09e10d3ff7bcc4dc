"""What a request takes of its key's limits: counted before it is answered, put right afterwards."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from gateway.closing import Stream
from gateway.deps import CallerDep, ServicesDep
from gateway.limits import LIMIT_HEADERS
from gateway.rate_limits import Kind, Quota, RateLimits
from shared.chat import ChatRequest, CompletionRequest

# Of texts in most languages; what is written is known exactly afterwards.
CHARACTERS_PER_TOKEN = 4
# Where a request does not say how much may be written.
USUAL_ANSWER = 512


@dataclass
class Meter:
    """Of one request. Without a key (in a browser) nothing is counted."""

    request: Request
    limits: RateLimits
    quota: Quota | None

    moment: float = 0.0
    reads: int = 0
    taken: int = 0
    settled: bool = False

    @asynccontextmanager
    async def taking(self, *, reads: int, writes: int) -> AsyncIterator[None]:
        """Count the request, and so many tokens at most; `TooManyRequests` where the key has used
        its minute up. The answer's headers tell what is left. What comes to nothing costs no
        tokens."""
        self.moment = self.limits.now()
        self.reads, self.taken = reads, reads + writes
        if self.quota is not None:
            amounts: dict[Kind, int] = {"requests": 1, "tokens": self.taken}
            told = self.request.scope.setdefault(LIMIT_HEADERS, {})
            for standing in await self.limits.take(self.quota, amounts, self.moment):
                told.update(standing.headers)
        try:
            yield
        except BaseException:
            self.end(0)
            raise

    def end(self, used: int) -> None:
        """So many tokens it was, unless that was said before."""
        if self.quota is not None and not self.settled:
            self.settled = True
            self.limits.settle(
                self.quota, "tokens", taken=self.taken, used=used, moment=self.moment
            )

    def end_with(self, answer: dict[str, Any]) -> None:
        """As many as the answer says; as many as were taken where it does not."""
        usage = answer.get("usage")
        total = usage.get("total_tokens") if isinstance(usage, dict) else None
        self.end(total if isinstance(total, int) and total >= 0 else self.taken)

    def along(self, chunks: Stream) -> Stream:
        """The same stream; its events are counted as a token each."""
        events = 0

        async def counted() -> AsyncGenerator[bytes, None]:
            nonlocal events
            async for chunk in chunks:
                events += chunk.count(b"\ndata:") + chunk.startswith(b"data:")
                yield chunk

        async def end() -> None:
            self.end(self.reads + events)
            await chunks.aclose()

        return Stream(counted(), end)


async def meter(request: Request, services: ServicesDep, caller: CallerDep) -> Meter:
    return Meter(request, services.limits, caller.quota)


MeterDep = Annotated[Meter, Depends(meter)]


def tokens_of(request: ChatRequest | CompletionRequest) -> tuple[int, int]:
    """About how many tokens a request has read, and how many it may have written."""
    if isinstance(request, ChatRequest):
        characters = sum(len(message.text) for message in request.messages)
    else:
        characters = len(request.prompt)
    return 1 + characters // CHARACTERS_PER_TOKEN, request.new_token_limit or USUAL_ANSWER
