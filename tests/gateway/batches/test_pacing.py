"""Batches keep to the limits of the key that made them, in a pool of their own."""

import json
import time
from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, chat, live_gateway
from tests.gateway.parts import until_true

URL = "/v1/chat/completions"


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        chat(live, BUNDLED_MODEL).raise_for_status()
        live.inference.asked.clear()
        yield live


def client_with(live: Live, **limits: int) -> OpenAI:
    body = {"name": "n", "scopes": ["infer"]} | limits
    made = live.http.post("/api/keys", json=body).json()
    return OpenAI(base_url=f"{live.url}/v1", api_key=made["key"], max_retries=0)


def begin(client: OpenAI, name: str, count: int) -> Batch:
    def line(number: int) -> dict[str, object]:
        asked = [{"role": "user", "content": f"{name} {number}"}]
        body = {"model": BUNDLED_MODEL, "messages": asked, "max_tokens": 99}
        return {"custom_id": str(number), "method": "POST", "url": URL, "body": body}

    content = "\n".join(json.dumps(line(number)) for number in range(count)).encode()
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")


def ask(client: OpenAI) -> None:
    client.chat.completions.create(
        model=BUNDLED_MODEL, messages=[{"role": "user", "content": "now"}], max_tokens=99
    )


def test_all_batches_of_a_key_share_what_its_limits_allow_and_leave_the_key_its_own(
    live: Live,
) -> None:
    with client_with(live, requests_per_minute=3) as client:
        batches = [begin(client, name, 5) for name in ("one", "two")]
        until_true(lambda: len(live.inference.asked) == 3)
        time.sleep(0.5)
        assert len(live.inference.asked) == 3
        # What waits is no request that was turned away.
        assert sum(live.services.limits.refused.values()) == 0
        for _ in range(3):
            ask(client)
        with pytest.raises(openai.RateLimitError):
            ask(client)
        for batch in batches:
            client.batches.cancel(batch.id)


def test_a_batch_pays_for_tokens_what_its_answers_cost(live: Live) -> None:
    # Each may write 99 and read 2, and takes 8 (see the fake inference service).
    with client_with(live, tokens_per_minute=130) as client:
        batch = begin(client, "one", 6)
        until_true(lambda: len(live.inference.asked) >= 4)
        time.sleep(0.5)
        # After four of them 98 are left: too few for what the fifth may take.
        assert len(live.inference.asked) == 4
        client.batches.cancel(batch.id)


def test_a_key_without_limits_has_batches_without(live: Live) -> None:
    with client_with(live) as client:
        batch = begin(client, "one", 5)
        until_true(lambda: client.batches.retrieve(batch.id).status == "completed")
        counts = client.batches.retrieve(batch.id).request_counts
        assert counts is not None and (counts.completed, counts.failed) == (5, 0)
