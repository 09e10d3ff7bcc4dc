"""What a run's owner asks of it while it trains, read from Redis; knows no process."""

from typing import Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.event_stream import cancel_key, control_key

Wish = Literal["cancel", "pause", "stop"]


async def read_wish(redis: Redis, *, run_id: str, attempt: int) -> Wish | None:
    """What is wanted of this attempt, or of a later one of the same run: its gateway is further
    then. None where nothing is, and where Redis cannot be asked."""
    try:
        cancel, control = await redis.mget(cancel_key(run_id), control_key(run_id))
    except (OSError, RedisError):
        return None
    if cancel is not None and _is_for(cancel, attempt):
        return "cancel"
    if control is None:
        return None
    number, _, wish = control.partition(b":")
    if not _is_for(number, attempt):
        return None
    return "pause" if wish == b"pause" else "stop" if wish == b"stop" else None


def _is_for(number: bytes, attempt: int) -> bool:
    try:
        return int(number) >= attempt
    except ValueError:
        return True
