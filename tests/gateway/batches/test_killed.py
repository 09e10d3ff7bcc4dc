"""A gateway that is killed again and again in the middle of a batch, as a process of its own."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from shared.storage import Storage
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.fake_inference import FakeInference, fake_inference
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


@pytest.fixture
def inference() -> Iterator[FakeInference]:
    with fake_inference() as inference:
        inference.echoes, inference.seconds_a_word = True, 0.05
        yield inference


@pytest.fixture
def variables(
    tmp_path: Path, valkey: Valkey, settings: GatewaySettings, inference: FakeInference
) -> dict[str, str]:
    fake_prepared(Storage(tmp_path / "data"), BUNDLED_MODEL)
    return environment(
        tmp_path / "data",
        valkey,
        GENPLAT_INFERENCE_URL=inference.url,
        GENPLAT_INTERNAL_TOKEN=settings.internal_token.get_secret_value(),
        GENPLAT_BATCH_CONCURRENCY="3",
        GENPLAT_BATCH_LEASE_SECONDS="1",
    )


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    """Those that are to end with the test."""
    started: list[Server] = []
    yield started
    for server in started:
        server.process.kill()
        server.process.wait()


def begin(client: OpenAI) -> str:
    content = "".join(json.dumps(item(number)) + "\n" for number in range(REQUESTS))
    file = client.files.create(file=("r.jsonl", content.encode()), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h").id


def check(client: OpenAI, batch_id: str, inference: FakeInference, *, kills: int) -> None:
    """Each request was answered once, and those alone that were under way were asked again."""
    until_true(lambda: client.batches.retrieve(batch_id).status == "completed", seconds=90)
    batch = client.batches.retrieve(batch_id)
    text = client.files.content(str(batch.output_file_id)).text
    answers = [json.loads(line) for line in text.splitlines()]
    assert [one["custom_id"] for one in answers] == [f"r{n}" for n in range(REQUESTS)]
    for number, one in enumerate(answers):
        said = one["response"]["body"]["choices"][0]["message"]["content"]
        assert said == f"to q{number}"
    assert batch.request_counts is not None and batch.usage is not None
    assert batch.request_counts.completed == batch.request_counts.total == REQUESTS
    assert batch.usage.total_tokens == 8 * REQUESTS
    assert batch.error_file_id is None
    asked = Counter(body["messages"][-1]["content"] for body in inference.asked)
    # (The first three find no model loaded.)
    assert len(asked) == REQUESTS and sum(asked.values()) <= REQUESTS + 3 * (kills + 1)


@pytest.mark.timeout(240)
def test_killed_three_times_nothing_is_twice_and_nothing_is_missing(
    variables: dict[str, str], inference: FakeInference, servers: list[Server]
) -> None:
    root, chance = Path(variables["GENPLAT_DATA_DIR"]), random.Random(1)
    servers.append(start(root, variables))
    with client_of(servers[-1]) as client:
        batch_id = begin(client)
    done = 0
    for _ in range(3):
        until_true(lambda: _done(servers[-1], batch_id) > done + 5)  # noqa: B023
        time.sleep(chance.uniform(0, 0.2))
        done = _done(servers[-1], batch_id)
        assert done < REQUESTS, "it was over before it was killed"
        servers[-1].process.kill()
        servers[-1].process.wait()
        servers.append(start(root, variables))
    with client_of(servers[-1]) as client:
        check(client, batch_id, inference, kills=3)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_of_two_gateways_one_works_and_the_other_goes_on(
    variables: dict[str, str],
    inference: FakeInference,
    servers: list[Server],
    number: signal.Signals,
) -> None:
    root = Path(variables["GENPLAT_DATA_DIR"])
    # The first one has it: the second is started later.
    servers.append(start(root, variables))
    with client_of(servers[0]) as client:
        batch_id = begin(client)
    until_true(lambda: _done(servers[0], batch_id) > 5)
    servers.append(start(root, variables))
    until_true(lambda: _done(servers[1], batch_id) > 10)
    assert inference.most_at_once == 3
    servers[0].process.send_signal(number)
    servers[0].process.wait()
    with client_of(servers[1]) as client:
        check(client, batch_id, inference, kills=1)


def _done(server: Server, batch_id: str) -> int:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    answer = httpx.get(f"{server.url}/v1/batches/{batch_id}", headers=headers)
    return int(answer.json()["request_counts"]["completed"])
