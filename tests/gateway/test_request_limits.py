"""Bodies, headers and addresses that are odd or too large, and what errors tell."""

import json
import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.gateway.conftest import ADMIN_KEY, BASE_URL


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
