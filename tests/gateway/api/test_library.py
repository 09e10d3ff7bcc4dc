"""The library through the API, with ids that hold a slash."""

import pytest
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.settings import GatewaySettings
from shared.hardware import HardwareFacts
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


def test_memory_is_held_against_what_a_worker_has(client: TestClient, valkey: Valkey) -> None:
    def needs(model_id: str) -> dict[str, bool | None]:
        told = client.get(f"/api/library/{model_id}").json()["memory"]
        assert all(need["bytes"] > 5e8 for need in told)
        return {need["method"]: need["fits"] for need in told}

    assert needs(BUNDLED_MODEL) == {"full": None, "lora": None, "qlora": None}
    assert client.get("/api/library").json()["device"] is None
    facts = HardwareFacts(
        worker="w",
        kind="cpu",
        name="A",
        device="cpu (A)",
        memory_bytes=3_500_000_000,
        precision="fp32",
    )
    with valkey.client() as redis:
        redis.set("genplat:hardware:w", facts.model_dump_json())
    assert client.get("/api/library").json()["device"]["memory_bytes"] == 3_500_000_000
    assert needs(BUNDLED_MODEL) == {"full": False, "lora": True, "qlora": True}
    assert needs("meta-llama/Llama-3.2-1B-Instruct")["lora"] is False


def test_all_facts_of_a_model_are_told(client: TestClient) -> None:
    told = client.get("/api/library/google-t5/t5-small").json()
    assert (told["family"], told["task_prefix"]) == ("seq2seq", "summarize: ")
    assert told["target_modules"] == ["q", "k", "v", "o", "wi", "wo"]
    gated = client.get("/api/library/meta-llama/Llama-3.2-1B-Instruct").json()
    assert gated["gated"] and "Llama" in gated["licence"]


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
