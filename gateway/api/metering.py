"""What a request takes of its key's limits: counted before it is answered, put right afterwards."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from gateway.closing import Stream
from gateway.deps import CallerDep, ServicesDep
from gateway.limits import LIMIT_HEADERS
from gateway.rate_limits import Kind, Quota, RateLimits, Turn
from gateway.token_counts import total_in

# As JSON has it: in what a model writes the quotes are escaped. (Services that tell it at the end
# say null before.)
_TOTAL = re.compile(rb'"usage": ?\{[^\r\n]*?"total_tokens": ?(\d{1,9})[,}\s]')


@dataclass
class Meter:
    """Of one request. Without a key (in a browser) nothing is counted."""

    request: Request
    limits: RateLimits
    quota: Quota | None

    reads: int = 0
    taken: int = 0
    turn: Turn | None = None

    @asynccontextmanager
    async def taking(self, *, reads: int, writes: int) -> AsyncIterator[None]:
        """Count the request, and so many tokens at most; `TooManyRequests` where the key has used
        its minute up. The answer's headers tell what is left. What comes to nothing costs no
        tokens."""
        self.reads, self.taken = reads, reads + writes
        if self.quota is not None:
            amounts: dict[Kind, int] = {"requests": 1, "tokens": self.taken}
            self.turn = await self.limits.take(self.quota, amounts)
            self.request.scope.setdefault(LIMIT_HEADERS, {}).update(self.turn.headers)
            if self.turn.refusal is not None:
                self.limits.refused.update(self.turn.beyond)
                raise self.turn.refusal
        try:
            yield
        except BaseException:
            self.end(0)
            raise

    def end(self, used: int) -> None:
        """So many tokens it was, unless that was said before."""
        turn, self.turn = self.turn, None
        if self.quota is not None and turn is not None:
            self.limits.settle(self.quota, turn, used)

    def end_with(self, answer: dict[str, Any]) -> None:
        """As many as the answer says; as many as were taken where it does not."""
        total = total_in(answer)
        self.end(self.taken if total is None else total)

    def along(self, chunks: Stream) -> Stream:
        """The same stream. Where it does not say how many tokens it was, its events are counted as
        one each."""
        events, total = 0, None

        async def counted() -> AsyncGenerator[bytes, None]:
            nonlocal events, total
            async for chunk in chunks:
                events += chunk.count(b"\ndata:") + chunk.startswith(b"data:")
                for said in _TOTAL.finditer(chunk):
                    total = int(said.group(1))
                yield chunk

        async def end() -> None:
            self.end(self.reads + events if total is None else total)
            await chunks.aclose()

        return Stream(counted(), end)


async def meter(request: Request, services: ServicesDep, caller: CallerDep) -> Meter:
    return Meter(request, services.limits, caller.quota)


MeterDep = Annotated[Meter, Depends(meter)]
