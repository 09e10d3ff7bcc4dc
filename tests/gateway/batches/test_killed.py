"""A gateway that is killed again and again in the middle of a batch, as a process of its own."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from shared.storage import Storage
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.fake_inference import fake_inference
from tests.gateway.gateway_process import Server, environment, wait_until_live
from tests.gateway.parts import fake_prepared, until_true
from tests.valkey import Valkey, free_port

REQUESTS = 80
URL = "/v1/chat/completions"


def start(root: Path, variables: dict[str, str]) -> Server:
    port = free_port()
    command = [sys.executable, "-m", "gateway.app", "--port", str(port)]
    process = subprocess.Popen(
        command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    )
    server = Server(process, port, root)
    wait_until_live(server)
    return server


def client_of(server: Server) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key=ADMIN_KEY, max_retries=5)


def item(number: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"q{number}"}]
    body = {"model": BUNDLED_MODEL, "messages": messages}
    return {"custom_id": f"r{number}", "method": "POST", "url": URL, "body": body}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [1])
def test_killed_three_times_nothing_is_twice_and_nothing_is_missing(
    tmp_path: Path, valkey: Valkey, settings: GatewaySettings, seed: int
) -> None:
    chance = random.Random(seed)
    root = tmp_path / "data"
    fake_prepared(Storage(root), BUNDLED_MODEL)
    with fake_inference() as inference:
        inference.echoes, inference.seconds_a_word = True, 0.05
        variables = environment(
            root,
            valkey,
            GENPLAT_INFERENCE_URL=inference.url,
            GENPLAT_INTERNAL_TOKEN=settings.internal_token.get_secret_value(),
            GENPLAT_BATCH_CONCURRENCY="3",
            GENPLAT_BATCH_LEASE_SECONDS="1",
        )
        server = start(root, variables)
        try:
            with client_of(server) as client:
                content = "".join(json.dumps(item(number)) + "\n" for number in range(REQUESTS))
                file = client.files.create(file=("r.jsonl", content.encode()), purpose="batch")
                made = client.batches.create(
                    input_file_id=file.id, endpoint=URL, completion_window="24h"
                )
            done = 0
            for _ in range(3):
                until_true(lambda: _done(server, made.id) > done + 5)  # noqa: B023
                time.sleep(chance.uniform(0, 0.2))
                done = _done(server, made.id)
                assert done < REQUESTS, "it was over before it was killed"
                server.process.kill()
                server.process.wait()
                server = start(root, variables)
            with client_of(server) as client:
                until_true(lambda: client.batches.retrieve(made.id).status == "completed")
                batch = client.batches.retrieve(made.id)
                text = client.files.content(str(batch.output_file_id)).text
        finally:
            server.process.kill()
            server.process.wait()
    answers = [json.loads(line) for line in text.splitlines()]
    assert [one["custom_id"] for one in answers] == [f"r{n}" for n in range(REQUESTS)]
    for number, one in enumerate(answers):
        said = one["response"]["body"]["choices"][0]["message"]["content"]
        assert said == f"to q{number}"
    assert batch.request_counts is not None and batch.usage is not None
    assert batch.request_counts.completed == batch.request_counts.total == REQUESTS
    assert batch.usage.total_tokens == 8 * REQUESTS
    assert batch.error_file_id is None
    # What was under way when it was killed was asked again, and nothing else.
    asked = Counter(body["messages"][-1]["content"] for body in inference.asked)
    assert len(asked) == REQUESTS and sum(asked.values()) <= REQUESTS + 4 * 3


def _done(server: Server, batch_id: str) -> int:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    answer = httpx.get(f"{server.url}/v1/batches/{batch_id}", headers=headers)
    return int(answer.json()["request_counts"]["completed"])
