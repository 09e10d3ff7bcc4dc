"""Tests of logging in and out."""

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlmodel import select
from starlette.testclient import TestClient

from gateway import auth, keys
from gateway.app import create_app
from gateway.database import Database
from gateway.settings import GatewaySettings
from gateway.tables import ApiKey, LoginSession, now
from shared.errors import TooManyRequests, Unauthorized
from tests.gateway.conftest import ADMIN_KEY, BASE_URL, LOGIN_TOKEN


def log_in(database: Database, settings: GatewaySettings, secret: str) -> str:
    return auth.login(
        database=database, settings=settings, limit=auth.LoginLimit(), secret=secret, client="me"
    )


def test_the_login_token_and_keys_open_a_session(
    database: Database, settings: GatewaySettings
) -> None:
    _, key = keys.create_key(database=database, owner="somebody", name="theirs")
    for secret, owner in ((LOGIN_TOKEN, "admin"), (key, "somebody")):
        cookie = log_in(database, settings, secret)
        assert auth.session_owner(database=database, cookie=cookie) == owner


@pytest.mark.parametrize("secret", ["", "wrong", LOGIN_TOKEN + "x", "ü", "\x00"])
def test_other_secrets_do_not(database: Database, settings: GatewaySettings, secret: str) -> None:
    with pytest.raises(Unauthorized):
        log_in(database, settings, secret)


def test_no_login_token_is_not_an_empty_one(database: Database, settings: GatewaySettings) -> None:
    without = settings.model_copy(update={"login_token": SecretStr("")})
    with pytest.raises(Unauthorized):
        log_in(database, without, "")


def test_a_revoked_key_ends_the_sessions_it_opened(
    database: Database, settings: GatewaySettings
) -> None:
    key, secret = keys.create_key(database=database, owner="admin", name="lost")
    by_key = log_in(database, settings, secret)
    by_token = log_in(database, settings, LOGIN_TOKEN)
    keys.revoke_key(database=database, owner="admin", key_id=key.id)
    assert auth.session_owner(database=database, cookie=by_key) is None
    assert auth.session_owner(database=database, cookie=by_token) == "admin"


def test_another_admin_key_takes_the_place_of_the_first(
    database: Database, settings: GatewaySettings
) -> None:
    first, second = "the-first-admin-key", "the-second-admin-key"
    keys.seed_admin_key(database=database, secret=first)
    session = log_in(database, settings, first)
    keys.seed_admin_key(database=database, secret=second)
    assert keys.authenticate(database=database, secret=first) is None
    assert keys.authenticate(database=database, secret=second) is not None
    assert auth.session_owner(database=database, cookie=session) is None
    keys.seed_admin_key(database=database, secret=first)
    assert keys.authenticate(database=database, secret=first) is not None


def test_sessions_end(database: Database, settings: GatewaySettings) -> None:
    cookie = log_in(database, settings, LOGIN_TOKEN)
    with database.write() as session:
        row = session.exec(select(LoginSession)).one()
        row.expires_at = now()
        session.add(row)
    assert auth.session_owner(database=database, cookie=cookie) is None


def test_logging_out_ends_the_session_here(database: Database, settings: GatewaySettings) -> None:
    first, second = (log_in(database, settings, LOGIN_TOKEN) for _ in range(2))
    auth.logout(database=database, cookie=first)
    assert auth.session_owner(database=database, cookie=first) is None
    assert auth.session_owner(database=database, cookie=second) == "admin"


def test_only_hashes_are_stored(database: Database, settings: GatewaySettings) -> None:
    cookie = log_in(database, settings, LOGIN_TOKEN)
    key, secret = keys.create_key(database=database, owner="admin", name="n")
    with database.read() as session:
        rows = [*session.exec(select(LoginSession)).all(), *session.exec(select(ApiKey)).all()]
    stored = " ".join(row.model_dump_json() for row in rows)
    assert cookie not in stored
    assert secret not in stored
    assert key.sha256 in stored


def test_tries_are_counted_by_client() -> None:
    limit = auth.LoginLimit(tries=3)
    for _ in range(3):
        limit.count("one")
    with pytest.raises(TooManyRequests) as refused:
        limit.count("one")
    assert refused.value.retry_after is not None
    assert 50 < refused.value.retry_after <= 60
    limit.count("another")


def test_old_tries_are_forgotten() -> None:
    limit = auth.LoginLimit(tries=1, seconds=0)
    limit.count("one")
    limit.count("one")


@pytest.mark.parametrize(
    "target",
    [None, "", "//evil.test", "https://evil.test", "/\\evil.test", "\\\\evil", "javascript:x",
     "/a\nb", "evil", "/\t/evil.test", "///evil.test"],
)  # fmt: skip
def test_next_stays_here(target: str | None) -> None:
    assert auth.safe_next(target) == "/"


@pytest.mark.parametrize("target", ["/", "/runs", "/runs/run_1?tab=log#end"])
def test_next_keeps_own_paths(target: str) -> None:
    assert auth.safe_next(target) == target


def test_the_login_link(anonymous: TestClient) -> None:
    answer = anonymous.get("/login", params={"token": LOGIN_TOKEN, "next": "/runs"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{auth.COOKIE}=")
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert anonymous.get("/api/keys").status_code == 200


def cookie_of(client: TestClient) -> set[str]:
    """The words of the session cookie's line, without its value."""
    answer = client.get("/login", params={"token": LOGIN_TOKEN})
    return {word.strip().lower() for word in answer.headers["set-cookie"].split(";")[1:]}


def test_the_cookie_is_kept_to_tls_where_it_is_told_so(settings: GatewaySettings) -> None:
    assert not settings.secure_cookies
    with TestClient(create_app(settings), base_url=BASE_URL, follow_redirects=False) as client:
        assert "secure" not in cookie_of(client)
        assert client.get("/api/keys").status_code == 200
    settings = settings.model_copy(update={"secure_cookies": True})
    with TestClient(create_app(settings), base_url=BASE_URL, follow_redirects=False) as client:
        assert {"secure", "httponly", "samesite=lax"} <= cookie_of(client)
        # The client stores it, and keeps it to itself where a reader of the line could see it.
        assert client.get("/api/keys").status_code == 401
        assert client.get(f"{BASE_URL.replace('http', 'https')}/api/keys").status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_page_whose_session_has_ended_goes_to_the_login(
    browser: TestClient, app: FastAPI, method: str
) -> None:
    htmx = {"HX-Request": "true"}
    assert "hx-redirect" not in browser.get("/runs", headers=htmx).headers
    with app.state.services.database.write() as session:
        session.exec(select(LoginSession)).one().expires_at = now()
    # htmx follows a plain redirect by itself, and would swap the login page into the panel.
    answer = browser.request(method, "/deployments", headers=htmx)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login")
    assert (answer.content, "location" in answer.headers) == (b"", False)
    plain = browser.request(method, "/deployments")
    wanted = "/login?next=%2Fdeployments" if method == "GET" else "/login"
    assert (plain.status_code, plain.headers["location"]) == (303, wanted)
    assert "hx-redirect" not in plain.headers


def test_the_admin_key_logs_in(anonymous: TestClient) -> None:
    answer = anonymous.post("/login", data={"key": ADMIN_KEY, "next": "//evil.test"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_the_session_id_rotates(anonymous: TestClient) -> None:
    first = anonymous.get("/login", params={"token": LOGIN_TOKEN}).cookies[auth.COOKIE]
    second = anonymous.get("/login", params={"token": LOGIN_TOKEN}).cookies[auth.COOKIE]
    assert first != second


def test_logging_out_over_http(browser: TestClient) -> None:
    cookie = browser.cookies[auth.COOKIE]
    assert browser.post("/logout").status_code == 303
    browser.cookies.set(auth.COOKIE, cookie, domain="127.0.0.1")
    assert browser.get("/api/keys").status_code == 401


def test_too_many_tries_over_http(anonymous: TestClient) -> None:
    statuses = [
        anonymous.post("/login", data={"key": "wrong"}).status_code
        for _ in range(auth.TRIES_PER_MINUTE + 1)
    ]
    assert set(statuses[:-1]) == {401}
    assert statuses[-1] == 429
    # A spoofed address does not start a new count.
    spoofed = {"X-Forwarded-For": "8.8.8.8", "Forwarded": "for=8.8.8.8"}
    assert anonymous.post("/login", data={"key": "wrong"}, headers=spoofed).status_code == 429


def test_the_admin_key_is_seeded_once_and_stays_revoked(
    anonymous: TestClient, app: FastAPI
) -> None:
    database = app.state.services.database
    key = keys.authenticate(database=database, secret=ADMIN_KEY)
    assert key is not None and key.owner == keys.ADMIN_OWNER
    keys.seed_admin_key(database=database, secret=ADMIN_KEY)
    found = keys.list_keys(database=database, owner=keys.ADMIN_OWNER).data
    assert [key.name for key in found] == [keys.ADMIN_KEY_NAME]
    keys.revoke_key(database=database, owner=keys.ADMIN_OWNER, key_id=found[0].id)
    keys.seed_admin_key(database=database, secret=ADMIN_KEY)
    assert keys.authenticate(database=database, secret=ADMIN_KEY) is None
