"""The one Redis stream on which workers report and the gateway listens; knows no database."""

from typing import Any, Literal

from pydantic import ValidationError
from redis.asyncio import Redis

from shared.run_events import RunEvent

STREAM = "genplat:events"
MAX_ENTRIES = 100_000
MAX_EVENT_BYTES = 64 * 1024
FIELD = "event"


def cancel_key(run_id: str) -> str:
    """Set by the gateway to ask a run's worker to stop; the worker looks at it again and again."""
    return f"genplat:cancel:{run_id}"


Control = Literal["pause", "stop"]


def control_key(run_id: str) -> str:
    """Set by the gateway to ask a run's worker to pause, or to stop and keep what was learned:
    ``{attempt}:{pause or stop}``, for that attempt and earlier ones."""
    return f"genplat:control:{run_id}"


async def publish(redis: Redis, event: RunEvent) -> str:
    """Append ``event``; returns its stream id, by which its survival can be checked."""
    stream_id: bytes = await redis.xadd(
        STREAM, {FIELD: event.model_dump_json()}, maxlen=MAX_ENTRIES, approximate=True
    )
    return stream_id.decode()


async def holds(redis: Redis, stream_id: str) -> bool:
    """Whether the entry is still there; false after a Redis was emptied."""
    return bool(await redis.xrange(STREAM, stream_id, stream_id))


async def read(
    redis: Redis, *, after: str = "0-0", block_ms: int = 1000, count: int = 500
) -> list[tuple[str, RunEvent | None]]:
    """The next events after a stream id, waiting up to ``block_ms`` for one.

    An entry that is no event comes as None, so that a reader can step over it.
    """
    answer: Any = await redis.xread({STREAM: after}, count=count, block=block_ms)
    if not answer:
        return []
    return [(entry_id.decode(), parse(fields)) for entry_id, fields in answer[0][1]]


def parse(fields: dict[bytes, bytes]) -> RunEvent | None:
    raw = fields.get(FIELD.encode(), b"")
    if len(raw) > MAX_EVENT_BYTES:
        return None
    try:
        return RunEvent.model_validate_json(raw)
    except ValidationError:
        return None
