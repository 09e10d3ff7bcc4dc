"""What no route may let through: credentials, other sites, hosts, bodies, headers."""

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from gateway.auth import COOKIE
from gateway.errors import is_page
from tests.gateway.conftest import ADMIN_KEY, BASE_URL, LOGIN_TOKEN
from ui.rendering import asset

OPEN = {("GET", "/livez"), ("GET", "/readyz"), ("GET", "/login"), ("POST", "/login")}


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    for context in iter_route_contexts(app.routes):
        for method in context.methods or ():
            yield method, str(context.path)


def concrete(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "x", path)


def test_every_route_asks_for_credentials(anonymous: TestClient, app: FastAPI) -> None:
    seen = set(routes(app))
    assert {("POST", "/api/datasets"), ("POST", "/v1/chat/completions"), ("GET", "/docs")} <= seen
    for method, path in seen - OPEN:
        answer = anonymous.request(method, concrete(path))
        if is_page(path):
            where = answer.headers.get("location", "")
            assert (answer.status_code, where.startswith("/login")) == (303, True), (method, path)
        else:
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"


def test_nothing_but_the_named_routes_is_open(anonymous: TestClient) -> None:
    for method, path in OPEN - {("POST", "/login")}:
        assert anonymous.request(method, path).status_code == 200
    assert anonymous.get("/static/vendor/swagger-ui-5.35.0/start.js").status_code == 200


@pytest.mark.parametrize(
    ("path", "caching"),
    [
        (asset("app.css"), "public, max-age=31536000, immutable"),
        ("/static/app.css", "no-cache"),
        ("/static/absent.css?v=1", "no-store"),
        ("/login", "no-store"),
    ],
)
def test_only_what_carries_its_hash_is_kept(anonymous: TestClient, path: str, caching: str) -> None:
    assert anonymous.get(path).headers["cache-control"] == caching


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer gp-wrong")],
        [("Authorization", "Bearer ")],
        [("Authorization", "Bearer")],
        [("Authorization", f"Basic {ADMIN_KEY}")],
        [("Authorization", ADMIN_KEY)],
        [("Authorization", f"Bearer {ADMIN_KEY}"), ("Authorization", f"Bearer {ADMIN_KEY}")],
        [("Authorization", f"Bearer {ADMIN_KEY}"), ("Authorization", "Bearer gp-wrong")],
        [("Authorization", f"Bearer {ADMIN_KEY}"), ("Cookie", f"{COOKIE}=anything")],
        [("x-api-key", ADMIN_KEY)],
        [("Cookie", f"{COOKIE}={ADMIN_KEY}")],
        [("Cookie", f"{COOKIE}=")],
        [("Cookie", f"{COOKIE}=a; {COOKIE}=b")],
    ],
)
def test_wrong_double_and_mixed_credentials(
    anonymous: TestClient, headers: list[tuple[str, str]]
) -> None:
    answer = anonymous.get("/api/keys", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_a_key_in_the_query_is_no_credential(anonymous: TestClient) -> None:
    assert anonymous.get("/api/keys", params={"token": ADMIN_KEY}).status_code == 401


def test_a_revoked_key_is_refused(client: TestClient) -> None:
    made = client.post("/api/keys", json={"name": "short lived"}).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert client.get("/api/keys", headers=headers).status_code == 200
    assert client.delete(f"/api/keys/{made['id']}").status_code == 204
    assert client.get("/api/keys", headers=headers).status_code == 401


def test_nobody_sees_what_another_owns(client: TestClient, other_owner: str) -> None:
    made = client.post(
        "/api/datasets", data={"name": "mine"}, files={"file": ("a.csv", b"text,target\na,b\n")}
    ).json()
    key = client.post("/api/keys", json={"name": "mine"}).json()
    theirs = {"Authorization": f"Bearer {other_owner}"}
    for path in ("", "/preview", "/content", "/records"):
        assert client.get(f"/api/datasets/{made['id']}{path}", headers=theirs).status_code == 404
    assert client.delete(f"/api/datasets/{made['id']}", headers=theirs).status_code == 404
    assert client.delete(f"/api/keys/{key['id']}", headers=theirs).status_code == 404
    assert client.get("/api/datasets", headers=theirs).json()["data"] == []
    assert client.get(f"/api/datasets?after={made['id']}", headers=theirs).status_code == 400
    assert client.get(f"/api/datasets/{made['id']}").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.test", "127.0.0.1.evil.test", "evil.test:8000", "", "127.0.0.1:8000@evil.test"]
)
def test_other_host_names_are_refused(client: TestClient, host: str) -> None:
    answer = client.get("/api/keys", headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "host_not_allowed")


def test_own_host_names_pass_on_any_port(client: TestClient) -> None:
    for host in ("127.0.0.1:8000", "localhost", "LOCALHOST:3", "[::1]:8000", "[::1]"):
        assert client.get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "nonsense"},
        {"Sec-Fetch-Site": None, "Origin": "http://evil.test"},
        {"Sec-Fetch-Site": None, "Origin": "null"},
        {"Sec-Fetch-Site": None, "Origin": "http://127.0.0.1:9000"},
        {"Sec-Fetch-Site": None},
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_other_sites_cannot_use_the_session(
    browser: TestClient, headers: dict[str, str | None], method: str
) -> None:
    del browser.headers["Sec-Fetch-Site"]
    sent = {name: value for name, value in headers.items() if value is not None}
    answer = browser.request(method, "/api/keys", json={"name": "x"}, headers=sent)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site")


def test_own_pages_can_use_the_session(browser: TestClient) -> None:
    assert browser.post("/api/keys", json={"name": "x"}).status_code == 201
    del browser.headers["Sec-Fetch-Site"]
    answer = browser.post("/api/keys", json={"name": "x"}, headers={"Origin": BASE_URL})
    assert answer.status_code == 201


def test_other_sites_cannot_log_a_browser_in(anonymous: TestClient) -> None:
    answer = anonymous.post(
        "/login", data={"key": LOGIN_TOKEN}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status_code == 403
    assert COOKIE not in answer.headers.get("set-cookie", "")


def test_other_sites_can_link_here_and_embed_nothing(browser: TestClient) -> None:
    cross = {"Sec-Fetch-Site": "cross-site"}
    linked = browser.get("/api/keys", headers=cross | {"Sec-Fetch-Mode": "navigate"})
    assert linked.status_code == 200
    embedded = browser.get("/api/keys", headers=cross | {"Sec-Fetch-Mode": "no-cors"})
    assert embedded.status_code == 403


def test_a_key_needs_no_origin(client: TestClient) -> None:
    answer = client.post("/api/keys", json={"name": "x"}, headers={"Origin": "http://evil.test"})
    assert answer.status_code == 201
    assert "access-control-allow-origin" not in answer.headers
