"""What the gateway asks for by itself when it starts."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from gateway import background
from gateway.app import create_app
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.conftest import ADMIN_KEY, BASE_URL
from tests.gateway.parts import asynchronous, fake_prepared, gateway_services, until_true
from tests.valkey import Valkey


@pytest.fixture
def preparing(settings: GatewaySettings) -> GatewaySettings:
    """The setting that a user has, and that the other tests turn off."""
    return settings.model_copy(update={"prepare_bundled_model": True})


def started(settings: GatewaySettings) -> TestClient:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    return TestClient(create_app(settings), base_url=BASE_URL, headers=headers)


def jobs(valkey: Valkey) -> list[dict[str, Any]]:
    with closing(valkey.client()) as client:
        redis: Any = client
        return [json.loads(redis.get(key)) for key in redis.keys("arq:job:*")]


def state(client: TestClient) -> str:
    return str(client.get(f"/api/library/{BUNDLED_MODEL}").json()["state"])


def test_the_bundled_model_is_asked_for_at_the_first_start(
    preparing: GatewaySettings, valkey: Valkey
) -> None:
    with started(preparing) as client:
        until_true(lambda: jobs(valkey))
        (job,) = jobs(valkey)
        assert (job["f"], job["a"]) == (
            "prepare_base_model",
            [{"model_id": BUNDLED_MODEL, "folder": None}],
        )
        assert state(client) == "preparing"


def test_the_bundled_model_is_asked_for_when_redis_comes_later(
    preparing: GatewaySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "RESTART_SECONDS", 0.1)
    server = Valkey(tmp_path)
    with started(preparing.model_copy(update={"redis_url": server.url})) as client:
        assert state(client) in ("available", "missing", "preparing")
        assert client.get("/readyz").json()["checks"]["redis"] == "down"
        server.start()
        try:
            until_true(lambda: jobs(server))
            assert state(client) == "preparing"
        finally:
            server.stop()


@asynchronous
async def test_what_is_under_way_or_there_is_not_asked_for_again(
    preparing: GatewaySettings, valkey: Valkey
) -> None:
    async with gateway_services(preparing) as services:
        for _ in range(2):
            await background.prepare_bundled_model(services)
        assert len(jobs(valkey)) == 1
        valkey.flush()
        fake_prepared(services.storage, BUNDLED_MODEL)
        await background.prepare_bundled_model(services)
        assert jobs(valkey) == []


@asynchronous
async def test_whoever_turns_it_off_is_asked_for_nothing(
    settings: GatewaySettings, valkey: Valkey
) -> None:
    async with gateway_services(settings) as services:
        await background.prepare_bundled_model(services)
        assert jobs(valkey) == []
