"""What no route may let through: credentials, other sites, hosts, bodies, headers."""

import json
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
    for path in ("", "/preview", "/content"):
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


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_json_in_disguise_is_refused_with_a_cookie(browser: TestClient, kind: str) -> None:
    answer = browser.post("/api/keys", content=b'{"name":"x"}', headers={"Content-Type": kind})
    assert answer.status_code == 415


def test_no_cors(client: TestClient) -> None:
    for origin in ("http://evil.test", "null"):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for method in ("GET", "OPTIONS"):
            answer = client.request(method, "/api/keys", headers=headers)
            assert not [name for name in answer.headers if name.startswith("access-control")]


def test_bodies_over_the_limit_are_refused_by_length_and_by_count(client: TestClient) -> None:
    body = json.dumps({"name": "x" * 300_000}).encode()

    def chunks() -> Iterator[bytes]:
        yield from (body[start : start + 10_000] for start in range(0, len(body), 10_000))

    headers = {"Content-Type": "application/json"}
    for content in (body, chunks()):
        answer = client.post("/api/keys", content=content, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_a_false_length_does_not_pass(client: TestClient) -> None:
    for length in ("99999999999999999999999", "9" * 5000):
        answer = client.post("/api/keys", content=b"{}", headers={"Content-Length": length})
        assert answer.status_code == 413


def test_compressed_bodies_are_not_inflated(client: TestClient) -> None:
    for encoding in ("gzip", "br", "deflate, gzip"):
        answer = client.post(
            "/api/keys", content=b"\x1f\x8b", headers={"Content-Encoding": encoding}
        )
        assert answer.status_code == 415


@pytest.mark.parametrize(
    "body",
    [
        b"{" * 10_000,
        b"[" * 100_000,
        b'{"name":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
        b'{"name": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"name": NaN}',
        b'{"name": "a\\u0000b"}',
        b'{"name": "a\\nb"}',
        b"\xff\xfe",
        b"",
        b"null",
        b'{"name": 1' + b"0" * 5000 + b"}",
    ],
)
def test_odd_json_is_refused_in_the_one_shape(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/keys", content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_security_headers_are_on_every_answer(browser: TestClient) -> None:
    for path in ("/livez", "/nothing", "/api/nothing", "/docs", "/api/keys", "/login"):
        headers = browser.get(path).headers
        assert "default-src 'none'; script-src 'self';" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


def test_request_ids_come_back_where_they_are_ids(client: TestClient) -> None:
    answer = client.get("/livez", headers={"x-request-id": "mine-1.2_3"})
    assert answer.headers["x-request-id"] == "mine-1.2_3"
    for odd in ("a b", "x" * 65, "\x1b[31m", "<script>"):
        answer = client.get("/livez", headers={"x-request-id": odd})
        assert re.fullmatch(r"req_[0-9a-f]{24}", answer.headers["x-request-id"])


@pytest.mark.parametrize("path", ["/api/%00", "/api/datasets/a%00b", "/api/datasets?after=%00"])
def test_nul_in_addresses(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/static/%2e%2e/rendering.py", "/static/..%2frendering.py",
        "/static//etc/passwd", "/static/%2fetc/passwd", "/static/..%5crendering.py",
        "/api/datasets/..%2f..%2fgenplat.db/content", "/api/datasets/%2e%2e/content",
    ],
)  # fmt: skip
def test_paths_lead_nowhere_else(client: TestClient, path: str) -> None:
    # Plain dots would not be sent: test_server.py sends them.
    assert client.get(path).status_code in (404, 405)


def test_errors_have_one_shape(client: TestClient) -> None:
    for method, path, status in (
        ("GET", "/api/nothing", 404),
        ("GET", "/v1/nothing", 404),
        ("PATCH", "/api/keys", 405),
        ("GET", "/api/keys?limit=x", 422),
        ("GET", "/api/keys?limit=0", 400),
        ("GET", "/api/keys?after=nothing", 400),
        ("DELETE", "/api/keys/nothing", 404),
    ):
        answer = client.request(method, path)
        assert answer.status_code == status, path
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert answer.json()["error"]["message"].endswith(".")


def test_v1_answers_400_with_the_field(client: TestClient) -> None:
    answer = client.post("/v1/chat/completions", json={"model": "x", "messages": "hello"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("messages")
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_an_unforeseen_error_tells_nothing(app: FastAPI) -> None:
    def boom() -> None:
        raise RuntimeError("secret path /etc/secret and SELECT * FROM api_keys")

    app.add_api_route("/api/boom", boom)
    with TestClient(app, base_url=BASE_URL, raise_server_exceptions=False) as client:
        answer = client.get("/api/boom", headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_full_disk_answers_507(app: FastAPI) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    app.add_api_route("/api/full", full)
    with TestClient(app, base_url=BASE_URL) as client:
        answer = client.get("/api/full")
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")


def test_people_get_pages_and_programs_json(browser: TestClient) -> None:
    assert browser.get("/nothing").headers["content-type"].startswith("text/html")
    asked = browser.get("/nothing", headers={"Accept": "application/json"})
    assert asked.json()["error"]["code"] == "not_found"


def test_data_is_for_its_user_alone(client: TestClient, app: FastAPI) -> None:
    root = app.state.services.settings.root
    assert root.stat().st_mode & 0o777 == 0o700
    assert (root / "genplat.db").stat().st_mode & 0o777 == 0o600
