"""Both ways into containers, from the checkout's Dockerfile: `make compose-test` runs this."""

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from gateway.client import Client
from tests.compose import engine
from tests.compose.main_job import do_small_main_job
from tests.valkey import free_port

pytestmark = [
    pytest.mark.skipif("COMPOSE_TEST" not in os.environ, reason="`make compose-test` runs it"),
    pytest.mark.timeout(3600),
]
KEY = "gp-" + secrets.token_urlsafe(32)


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    if not engine.engine_answers():
        pytest.skip("no container engine answers here")


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s"
        time.sleep(1)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def one_container() -> Iterator[str]:
    image = engine.build("embedded")
    container = engine.run(
        "docker", "run", "--detach", "--publish", "127.0.0.1::8000",
        "--env", f"GENPLAT_ADMIN_KEY={KEY}", image,
    )  # fmt: skip
    try:
        yield container
    finally:
        engine.run("docker", "rm", "--force", "--volumes", container)


def test_everything_in_one_container(one_container: str) -> None:
    url = "http://" + engine.run("docker", "port", one_container, "8000").splitlines()[0]
    # The link comes last, when every service is ready.
    wait_until(lambda: "/login?token=" in engine.run("docker", "logs", one_container))
    assert engine.run("docker", "exec", one_container, "id", "-u") == "10001"
    code = "from gateway.bundled_examples import held_out; print(len(held_out(32)))"
    assert engine.run("docker", "exec", one_container, "python", "-c", code) == "32"
    client = Client(url, KEY)
    try:
        do_small_main_job(client)
    finally:
        client.close()
    begun = time.monotonic()
    engine.run("docker", "stop", "--time", "20", one_container)
    assert time.monotonic() - begun < 12
    state = json.loads(engine.run("docker", "inspect", one_container))[0]["State"]
    assert state["ExitCode"] == 0


def test_the_web_image_is_small_and_has_no_torch() -> None:
    image = engine.build("web")
    # Nearly half of it is pyarrow, which reads and writes Parquet; a fifth is numpy, with which
    # evaluations count.
    assert engine.own_bytes(image, "python:3.11-slim") < 420_000_000
    code = "import importlib.util as u; print(u.find_spec('torch'))"
    assert engine.run("docker", "run", "--rm", image, "python", "-c", code) == "None"


@pytest.fixture
def services() -> Iterator[str]:
    command = (*engine.compose(), "--project-name", "genplat-test")
    address = f"127.0.0.1:{free_port()}"
    environment = {
        "GENPLAT_ADMIN_KEY": KEY,
        "GENPLAT_PUBLISH": address,
        "GENPLAT_INTERNAL_TOKEN": secrets.token_hex(16),
        "REDIS_PASSWORD": secrets.token_hex(16),
        "POSTGRES_PASSWORD": secrets.token_hex(16),
    }

    def take_down() -> None:
        engine.run(*command, "down", "--volumes", "--timeout", "45", seconds=300, **environment)

    # A run that was broken off leaves a database with another password.
    take_down()
    try:
        engine.run(*command, "up", "--detach", "--build", seconds=2400, **environment)
        yield f"http://{address}"
    finally:
        try:
            # Shown where the test failed.
            print(engine.run(*command, "logs", "--tail", "60", **environment))  # noqa: T201
        finally:
            take_down()


def test_services_of_their_own(services: str) -> None:
    wait_until(lambda: is_ready(services))
    client = Client(services, KEY)
    try:
        do_small_main_job(client)
    finally:
        client.close()
    assert is_ready(services)
