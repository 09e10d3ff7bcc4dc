"""What tests of `/v1/batches` say to it through OpenAI's unmodified client."""

import json
from typing import Any

from openai import OpenAI
from openai.types import Batch as OpenAIBatch

from shared.model_library import BUNDLED_MODEL
from tests.gateway.parts import until_true

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def request(custom_id: str, said: str, **changes: Any) -> dict[str, Any]:
    body = {"model": BUNDLED_MODEL, "messages": [{"role": "user", "content": said}]}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body | changes}


def lines(*items: object) -> bytes:
    return b"".join(
        (item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n" for item in items
    )


def upload(client: OpenAI, content: bytes) -> str:
    return client.files.create(file=("requests.jsonl", content), purpose="batch").id


def begin(client: OpenAI, content: bytes, endpoint: Any = CHAT, **more: Any) -> OpenAIBatch:
    return client.batches.create(
        input_file_id=upload(client, content),
        endpoint=endpoint,
        completion_window="24h",
        **more,
    )


def ended(client: OpenAI, batch: OpenAIBatch) -> OpenAIBatch:
    over = ("completed", "failed", "cancelled", "expired")
    until_true(lambda: client.batches.retrieve(batch.id).status in over)
    return client.batches.retrieve(batch.id)


def content(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def counts(client: OpenAI, batch: OpenAIBatch) -> tuple[int, int]:
    counts = client.batches.retrieve(batch.id).request_counts
    assert counts is not None
    return counts.total, counts.completed
