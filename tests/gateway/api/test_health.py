"""Health and metrics."""

from contextlib import suppress

from fastapi import FastAPI
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.settings import GatewaySettings
from tests.gateway.api.live import live_gateway
from tests.gateway.conftest import BASE_URL
from tests.valkey import Valkey


def checks(**others: str) -> dict[str, str]:
    return dict.fromkeys(("database", "redis", "inference", "renderer"), "ok") | others


def test_ready_needs_the_database_alone(settings: GatewaySettings, own_valkey: Valkey) -> None:
    settings = settings.model_copy(update={"redis_url": own_valkey.url})
    with TestClient(create_app(settings), base_url=BASE_URL) as client:
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()) == (
            200,
            {"status": "ready", "checks": checks(inference="down", renderer="down")},
        )
        own_valkey.stop()
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["checks"]["redis"]) == (200, "down")
        own_valkey.start()
        assert client.get("/readyz").json()["checks"]["redis"] == "ok"


def test_a_renderer_that_is_down_is_told_apart(settings: GatewaySettings) -> None:
    with live_gateway(settings) as live:
        assert live.http.get("/readyz").json()["checks"] == checks()
        live.inference.cannot_draw = "Java is missing."
        assert live.http.get("/readyz").json()["checks"] == checks(renderer="down")


def test_not_ready_without_the_database(anonymous: TestClient, app: FastAPI) -> None:
    services = app.state.services
    path = services.settings.root / "genplat.db"
    hidden = path.rename(path.with_suffix(".away"))
    # A background task may have opened, and so made, an empty one in between.
    while not path.is_dir():
        path.unlink(missing_ok=True)
        with suppress(FileExistsError):
            path.mkdir()
    # Now nobody opens it again, whatever works in the background.
    services.database.close()
    try:
        answer = anonymous.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "not_ready")
        assert anonymous.get("/livez").status_code == 200
    finally:
        path.rmdir()
        hidden.rename(path)


def test_metrics_are_for_keys_and_the_services_token(anonymous: TestClient) -> None:
    assert anonymous.get("/metrics").status_code == 401
    for wrong in ("Bearer x", "Bearer ", "Bearer the-services-own-token2"):
        assert anonymous.get("/metrics", headers={"Authorization": wrong}).status_code == 401
    token = {"Authorization": "Bearer the-services-own-token"}
    assert anonymous.get("/api/keys", headers=token).status_code == 401
    anonymous.get("/api/datasets/ds_secret?after=secret")
    answer = anonymous.get("/metrics", headers=token)
    assert answer.status_code == 200
    assert 'route="/api/datasets/{dataset_id}",status="401"' in answer.text
    assert 'genplat_runs{status="queued"} 0.0' in answer.text
    assert "secret" not in answer.text


def test_metrics_name_what_is_served_and_are_not_for_every_key(client: TestClient) -> None:
    for scopes, status in ((["infer"], 403), (["read"], 200)):
        made = client.post("/api/keys", json={"name": "k", "scopes": scopes}).json()
        headers = {"Authorization": f"Bearer {made['key']}"}
        assert client.get("/metrics", headers=headers).status_code == status


def test_unknown_methods_and_paths_make_no_labels(anonymous: TestClient) -> None:
    anonymous.request("BREW", "/coffee")
    token = {"Authorization": "Bearer the-services-own-token"}
    text = anonymous.get("/metrics", headers=token).text
    assert "coffee" not in text
    assert "BREW" not in text
    assert BASE_URL not in text
