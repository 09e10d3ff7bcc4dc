"""A Redis that accepts connections and never answers: a process that hangs, a half-dead network.

A Redis that is down refuses at once; of this one, only limits of time get anybody away.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.projector import run_projector
from gateway.reconciler import run_reconciler
from gateway.runs import create_run
from gateway.settings import GatewaySettings
from gateway.tables import LibraryModel, now
from shared.model_library import BUNDLED_MODEL
from shared.run_events import Measured, Started
from shared.tasks import cancel_until_done
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.conftest import BASE_URL
from tests.gateway.parts import (
    DATASET,
    OWNER,
    asynchronous,
    background,
    event,
    gateway_services,
    publish,
    read_run,
    spec,
    until,
)
from tests.valkey import Valkey

# The longest limit is 5 seconds; the rest is for a machine that is busy elsewhere.
IN_TIME = 30.0


@pytest.fixture
def silent(settings: GatewaySettings) -> Iterator[GatewaySettings]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        url = f"redis://:word@127.0.0.1:{listener.getsockname()[1]}/0"
        yield settings.model_copy(update={"redis_url": url})


def timed(ask: Callable[[], httpx.Response]) -> tuple[httpx.Response, float]:
    begin = time.monotonic()
    answer = ask()
    return answer, time.monotonic() - begin


def test_every_request_ends(silent: GatewaySettings) -> None:
    with live_gateway(silent) as live, ThreadPoolExecutor(8) as pool:
        body = {"base_model": BUNDLED_MODEL, "dataset_id": DATASET}
        live.http.timeout = httpx.Timeout(60)
        other = "HuggingFaceTB/SmolLM2-360M-Instruct"
        create = pool.submit(timed, lambda: live.http.post("/api/runs", json=body))
        ready = pool.submit(timed, lambda: live.http.get("/readyz"))
        prepare = pool.submit(timed, lambda: live.http.post(f"/api/library/{other}/prepare"))
        served = pool.submit(deployed_and_asked, live)

        answer, seconds = ready.result()
        assert answer.json() == {
            "status": "ready",
            "checks": {"database": "ok", "redis": "down", "inference": "ok", "renderer": "ok"},
        }
        assert seconds < IN_TIME
        answer, seconds = create.result()
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        assert seconds < IN_TIME
        run_id = answer.json()["id"]
        answer, seconds = prepare.result()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_unavailable")
        assert seconds < IN_TIME
        assert served.result() == 200

        # Of a job that is old enough to be gone, the queue is asked.
        with live.services.database.write() as session:
            row = session.get_one(LibraryModel, other)
            row.preparing_job, row.preparing_since = "prepare:x:1", now() - timedelta(hours=1)
        cancel = pool.submit(timed, lambda: live.http.post(f"/api/runs/{run_id}/cancel"))
        library = pool.submit(timed, lambda: live.http.get(f"/api/library/{other}"))
        answer, seconds = cancel.result()
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert seconds < IN_TIME
        answer, seconds = library.result()
        assert (answer.status_code, answer.json()["state"]) == (200, "preparing")
        assert seconds < IN_TIME


def deployed_and_asked(live: Live) -> int:
    """What needs no Redis goes on: a sweep that waits for it comes to the deployments too."""
    live.deploy("a")
    body = {"model": "a", "messages": [{"role": "user", "content": "Hi"}]}
    return live.http.post("/v1/chat/completions", json=body).status_code


def test_the_gateway_starts_and_stops(silent: GatewaySettings) -> None:
    begin = time.monotonic()
    with TestClient(create_app(silent), base_url=BASE_URL) as client:
        assert client.get("/livez").status_code == 200
    assert time.monotonic() - begin < IN_TIME


@asynchronous
async def test_background_tasks_end_while_they_wait(silent: GatewaySettings) -> None:
    async with gateway_services(silent) as services:
        tasks = [asyncio.create_task(run(services)) for run in (run_projector, run_reconciler)]
        await asyncio.sleep(0.5)
        begin = time.monotonic()
        await cancel_until_done(tasks)
        # Sooner than the waits themselves would have ended.
        assert all(task.cancelled() for task in tasks)
        assert time.monotonic() - begin < IN_TIME


@asynchronous
async def test_the_projector_goes_on_when_redis_answers_again(
    settings: GatewaySettings, own_valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings.model_copy(update={"redis_url": own_valkey.url})
    assert own_valkey.process is not None
    async with gateway_services(settings) as services, background(run_projector(services)):
        run = await create_run(services=services, owner=OWNER, spec=spec())
        await publish(services, event(run.id, Started(worker="w"), seq=1))
        await until(lambda: read_run(services.database, run.id).status == "running")
        own_valkey.process.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: "Run events wait" in caplog.text)
        finally:
            os.kill(own_valkey.process.pid, signal.SIGCONT)
        measured = Measured(step=3, total_steps=4, epoch=1, loss=0.1)
        await publish(services, event(run.id, measured, seq=2))
        await until(lambda: read_run(services.database, run.id).step == 3)
        assert caplog.text.count("Run events wait") == 1
