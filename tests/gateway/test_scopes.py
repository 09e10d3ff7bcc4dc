"""What each kind of key may do, over every route of the API."""

from datetime import timedelta

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from gateway import keys
from gateway.app import create_app
from gateway.routers import API
from gateway.scopes import SCOPES, Scope, may
from gateway.settings import GatewaySettings
from gateway.tables import ApiKey, now
from tests.gateway.conftest import BASE_URL


def routes() -> list[tuple[str, str, Scope | None]]:
    """Method, path with made-up names, and what it needs."""
    found = []
    for module, reads, writes in API:
        for route in module.router.routes:
            assert isinstance(route, APIRoute)
            for method in route.methods - {"HEAD"}:
                path = route.path.replace("{", "").replace("}", "").replace(":path", "")
                found.append((method, path, reads if method == "GET" else writes))
    return found


@pytest.mark.parametrize(
    ("scopes", "holds"),
    [
        ({"admin"}, set(SCOPES)),
        ({"train"}, {"train", "read"}),
        ({"infer"}, {"infer"}),
        ({"read"}, {"read"}),
        ({"infer", "read"}, {"infer", "read"}),
        (set(), set()),
        ({"root"}, set()),
    ],
)
def test_what_a_scope_holds(scopes: set[str], holds: set[str]) -> None:
    assert {scope for scope in SCOPES if may(scopes, scope)} == holds


@pytest.mark.parametrize("scope", SCOPES)
def test_a_key_does_what_its_scope_says_and_nothing_else(
    settings: GatewaySettings, scope: Scope
) -> None:
    with TestClient(create_app(settings), base_url=BASE_URL) as client:
        database = client.app.state.services.database  # type: ignore[attr-defined]
        _, secret = keys.create_key(database=database, owner="admin", name="k", scopes=[scope])
        client.headers["Authorization"] = f"Bearer {secret}"
        for method, path, needed in routes():
            answer = client.request(method, path)
            if (method, path) == ("POST", "/v1/files"):
                # What it needs is in the form; whoever may bring no file at all is not read.
                assert (answer.status_code == 403) == (scope == "read")
                continue
            refused = answer.status_code == 403 and "scope_missing" in answer.text
            assert refused == (needed is not None and not may({scope}, needed)), (method, path)
        pages = client.get("/runs", follow_redirects=False)
        assert (pages.status_code == 403) == (scope != "admin")
        del client.headers["Authorization"]
        login = client.post("/login", data={"key": secret}, follow_redirects=False)
        assert login.status_code == (303 if scope == "admin" else 403)


def test_a_key_whose_time_is_over_says_so(settings: GatewaySettings) -> None:
    with TestClient(create_app(settings), base_url=BASE_URL) as client:
        database = client.app.state.services.database  # type: ignore[attr-defined]
        key, secret = keys.create_key(
            database=database, owner="admin", name="k", expires_at=now() + timedelta(hours=1)
        )
        asked = {"Authorization": f"Bearer {secret}"}
        assert client.get("/api/runs", headers=asked).status_code == 200
        with database.write() as session:
            session.get_one(ApiKey, key.id).expires_at = now() - timedelta(days=1)
        answer = client.get("/api/runs", headers=asked)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "key_expired")


def test_keys_are_made_with_scopes_and_an_end(client: TestClient) -> None:
    body = {"name": "n", "scopes": ["infer", "read"], "expires_at": "2099-01-01T00:00:00Z"}
    made = client.post("/api/keys", json=body)
    assert made.status_code == 201
    assert made.json()["scopes"] == ["infer", "read"]
    assert made.json()["expires_at"] == "2099-01-01T00:00:00Z"
    assert client.post("/api/keys", json={"name": "all"}).json()["scopes"] == ["admin"]
    for wrong in (
        {"scopes": []},
        {"scopes": ["root"]},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"expires_at": "soon"},
        {"expires_at": "9999-12-31T23:59:59-14:00"},
        {"requests_per_minute": True},
        {"requests_per_minute": 0},
        {"tokens_per_minute": "5"},
    ):
        assert client.post("/api/keys", json={"name": "n"} | wrong).status_code in (400, 422)
