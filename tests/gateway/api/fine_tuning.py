"""What the tests of fine-tuning jobs share: a job, and a worker that tells of it; no test."""

import asyncio
from typing import Any

from openai.types.fine_tuning import FineTuningJob
from redis.asyncio import Redis

from gateway.tables import StreamPosition
from shared import event_stream
from shared.model_library import BUNDLED_MODEL
from shared.run_events import Payload
from tests.gateway.api.live import Live
from tests.gateway.parts import event, until_true

ERROR_KEYS = {"message", "type", "param", "code"}
REQUEST = {"model": BUNDLED_MODEL, "training_file": "file-test"}


def create(live: Live, **changes: Any) -> FineTuningJob:
    with live.openai as client:
        return client.fine_tuning.jobs.create(**REQUEST | changes)


def run_of(live: Live, job_id: str) -> dict[str, Any]:
    """The run behind a job, as `/api/runs` shows it."""
    run: dict[str, Any] = live.http.get(f"/api/runs/{job_id.replace('ftjob-', 'run_')}").json()
    return run


def tell(live: Live, job_id: str, *payloads: Payload, first: int = 1, attempt: int = 1) -> None:
    """Publish what a worker would say of a job, and wait until it is heard."""
    run_id = job_id.replace("ftjob-", "run_")

    async def publish() -> None:
        async with Redis.from_url(live.services.settings.redis_url) as redis:
            for seq, payload in enumerate(payloads, first):
                one = event(run_id, payload, seq=seq, attempt=attempt)
                last = await event_stream.publish(redis, one)
        positions.append(last)

    positions: list[str] = []
    asyncio.run(publish())
    until_true(lambda: _heard(live) >= _key(positions[0]))


def _heard(live: Live) -> tuple[int, ...]:
    with live.services.database.read() as session:
        row = session.get(StreamPosition, "projector")
    return _key(row.stream_id) if row else (0, 0)


def _key(stream_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in stream_id.split("-"))
