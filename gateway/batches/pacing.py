"""Holds a batch to the limits of the key that made it: in a pool of its own, so that all batches of
a key take as much as they allow, and nothing of what the key may ask meanwhile."""

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.answering.patience import Pause
from gateway.completion_requests import Request
from gateway.database import Database
from gateway.rate_limits import Quota, RateLimits
from gateway.tables import ApiKey, Batch
from gateway.token_counts import tokens_of, total_in

LOOK_AGAIN_SECONDS = 1.0

Ask = Callable[[Request], Awaitable[dict[str, Any]]]


def pool_of(database: Database, batch: Batch) -> Quota:
    """What its requests count for. A key that was revoked meanwhile still has its limits."""
    with database.read() as session:
        key = session.get(ApiKey, batch.key_id) if batch.key_id is not None else None
    if key is None:
        return Quota("nobody")
    return Quota(f"{key.id}:batches", key.requests_per_minute, key.tokens_per_minute)


async def ask_within(
    limits: RateLimits, pool: Quota, request: Request, ask: Ask, pause: Pause
) -> dict[str, Any]:
    """The answer, asked for once it is the request's turn: until then ``pause`` passes the time."""
    reads, writes = tokens_of(request)
    while (turn := await limits.take(pool, {"requests": 1, "tokens": reads + writes})).refusal:
        # (What those under way take more than they need is given back any moment.)
        await pause(LOOK_AGAIN_SECONDS)
    used = 0
    try:
        answer = await ask(request)
        total = total_in(answer)
        used = reads + writes if total is None else total
        return answer
    finally:
        # What came to nothing costs no tokens.
        limits.settle(pool, turn, used)
