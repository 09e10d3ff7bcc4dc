"""How much a key may ask in a minute, counted for all gateways together. Knows no HTTP."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from redis.asyncio import Redis

from gateway.counters import Counters, Place
from gateway.minute import Amount
from shared.errors import TooManyRequests

Kind = Literal["requests", "tokens"]


@dataclass(frozen=True)
class Quota:
    """Of the key with this id, a minute; None: without limit."""

    key_id: str
    requests: int | None = None
    tokens: int | None = None

    def limit(self, kind: Kind) -> int | None:
        return self.requests if kind == "requests" else self.tokens

    def name(self, kind: Kind) -> str:
        """Under which it is counted."""
        return f"genplat:limit:{self.key_id}:{kind}"


@dataclass(frozen=True)
class Standing:
    """What is left now; ``reset_seconds`` until all is there again if nobody asks any more."""

    kind: Kind
    limit: int
    remaining: int
    reset_seconds: float

    @property
    def headers(self) -> dict[str, str]:
        """As OpenAI names them."""
        return {
            f"x-ratelimit-limit-{self.kind}": str(self.limit),
            f"x-ratelimit-remaining-{self.kind}": str(self.remaining),
            f"x-ratelimit-reset-{self.kind}": f"{self.reset_seconds:.1f}s",
        }


@dataclass(frozen=True)
class Turn:
    """One request at its limits: let in, or with the error that says when to come back."""

    standings: list[Standing]
    # Which limits it is beyond.
    beyond: tuple[Kind, ...] = ()
    refusal: TooManyRequests | None = None
    place: Place | None = None
    tokens: int = 0

    @property
    def headers(self) -> dict[str, str]:
        return {name: text for one in self.standings for name, text in one.headers.items()}


class RateLimits:
    """Counts for all keys. Where Redis is away each gateway counts for itself. ``clock`` in seconds
    stands in for Redis' own, which is the same for all gateways."""

    def __init__(self, redis: Redis, clock: Callable[[], float] | None = None) -> None:
        self._counters = Counters(redis, clock)
        # Requests that were turned away, for metrics; whoever turns one away counts it.
        self.refused = Counter[Kind]({"requests": 0, "tokens": 0})

    @property
    def shared(self) -> bool:
        """Whether Redis counted when it was asked last."""
        return self._counters.shared

    async def take(self, quota: Quota, amounts: Mapping[Kind, int]) -> Turn:
        """Count the amounts that have a limit, or none of them. An amount beyond the whole limit
        counts as all of it: it may pass where nothing else does."""
        limits = {kind: limit for kind in amounts if (limit := quota.limit(kind)) is not None}
        if not limits:
            return Turn([])
        wanted = [
            Amount(quota.name(kind), min(amounts[kind], limit), limit)
            for kind, limit in limits.items()
        ]
        taken = await self._counters.take(wanted)
        standings = [
            Standing(kind, limit, max(0, limit - counted.used), counted.reset / 1000)
            for (kind, limit), counted in zip(limits.items(), taken.counted, strict=True)
        ]
        waits = {kind: one.wait for kind, one in zip(limits, taken.counted, strict=True)}
        if taken.place is None:
            return _refused(standings, waits)
        tokens = min(amounts.get("tokens", 0), limits.get("tokens", 0))
        return Turn(standings, place=taken.place, tokens=tokens)

    def settle(self, quota: Quota, turn: Turn, used: int) -> None:
        """Put right how many tokens it was, where that was only estimated: in the second in which
        they were taken. Given back later they would let more pass there than may. Nobody waits for
        it; whatever is taken here afterwards is counted afterwards."""
        if quota.tokens is not None and turn.place is not None and used != turn.tokens:
            self._counters.change(quota.name("tokens"), used - turn.tokens, turn.place)


def _refused(standings: list[Standing], waits: Mapping[Kind, int]) -> Turn:
    beyond = tuple(kind for kind, wait in waits.items() if wait > 0)
    longest = max(beyond, key=lambda kind: waits[kind])
    (limit,) = [standing.limit for standing in standings if standing.kind == longest]
    error = TooManyRequests(
        f"This API key may use {limit:,} {longest} a minute, and has.",
        retry_after=waits[longest] / 1000,
    )
    return Turn(standings, beyond, error)
