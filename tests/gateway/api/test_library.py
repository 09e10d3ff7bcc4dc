"""The library through the API, with ids that hold a slash."""

import pytest
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.conftest import ADMIN_KEY, BASE_URL
from tests.valkey import Valkey


def test_listing_and_finding(client: TestClient) -> None:
    listed = client.get("/api/library").json()
    assert (listed["object"], listed["has_more"]) == ("list", False)
    assert listed["data"][0]["id"] == BUNDLED_MODEL
    assert client.get(f"/api/library/{BUNDLED_MODEL}").json() == listed["data"][0]
    assert "folder" not in listed["data"][0]
    assert client.get("/api/library/no/such").status_code == 404


def test_adding_and_preparing(client: TestClient, valkey: Valkey) -> None:
    key = {"Idempotency-Key": "add"}
    for replayed in (None, "true"):
        answer = client.post("/api/library", json={"id": "me/mine"}, headers=key)
        assert (answer.status_code, answer.json()["state"]) == (201, "missing")
        assert answer.headers.get("idempotent-replayed") == replayed
    again = client.post("/api/library", json={"id": "me/mine"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    answer = client.post("/api/library/me/mine/prepare")
    assert (answer.status_code, answer.json()["state"]) == (202, "preparing")
    assert len(valkey.client().keys("arq:job:prepare:*")) == 1


def test_preparing_while_redis_is_away(settings: GatewaySettings, own_valkey: Valkey) -> None:
    settings = settings.model_copy(update={"redis_url": own_valkey.url})
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    with TestClient(create_app(settings), base_url=BASE_URL, headers=headers) as client:
        own_valkey.stop()
        answer = client.post(f"/api/library/{BUNDLED_MODEL}/prepare")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        own_valkey.start()
        answer = client.post(f"/api/library/{BUNDLED_MODEL}/prepare")
        assert (answer.status_code, answer.json()["state"]) == (202, "preparing")


@pytest.mark.parametrize(
    "body",
    [
        {}, {"id": "../x"}, {"id": 1}, {"id": "a/b", "trust_remote_code": True},
        {"id": "a/b", "folder": "/etc"}, {"id": "a/b", "context_length": 1},
        {"id": "a/b", "context_length": 10**12}, {"id": "http://x/y"},
    ],
)  # fmt: skip
def test_odd_models_are_refused(client: TestClient, body: dict[str, object]) -> None:
    answer = client.post("/api/library", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"]
