"""Every page over HTTP: reachable, guarded, and useful without JavaScript."""

import re

import pytest
from starlette.testclient import TestClient

from shared.model_library import BUNDLED_MODEL
from tests.gateway.conftest import ADMIN_KEY, LOGIN_TOKEN

PAGES = (
    "/",
    "/datasets",
    "/datasets/new",
    "/runs",
    "/runs/new",
    "/models",
    "/deployments",
    "/deployments/new",
    "/evaluations",
    "/evaluations/new",
    "/routes",
    "/routes/new",
    "/chat",
    "/keys",
)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers_those_who_are_logged_in(browser: TestClient, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_sends_others_to_the_login(anonymous: TestClient, path: str) -> None:
    answer = anonymous.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")


def test_an_api_key_logs_in_and_out(anonymous: TestClient) -> None:
    wrong = anonymous.post("/login", data={"key": "gp-wrong"})
    assert wrong.status_code == 401
    assert "not valid" in wrong.text
    answer = anonymous.post("/login", data={"key": ADMIN_KEY, "next": "/runs"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    anonymous.headers["Sec-Fetch-Site"] = "same-origin"
    assert anonymous.post("/logout").headers["location"] == "/login"
    assert anonymous.get("/").status_code == 303


def test_the_login_goes_nowhere_else(anonymous: TestClient) -> None:
    answer = anonymous.get("/login", params={"token": LOGIN_TOKEN, "next": "//evil.test"})
    assert answer.headers["location"] == "/"


def test_a_form_of_another_site_changes_nothing(browser: TestClient) -> None:
    browser.headers["Sec-Fetch-Site"] = "cross-site"
    assert browser.post("/keys", data={"name": "stolen"}).status_code == 403


def test_a_key_is_shown_once_works_and_can_be_revoked(browser: TestClient) -> None:
    assert browser.post("/keys", data={"name": ""}).status_code == 422
    wrong = browser.post("/keys", data={"name": "mykey", "tokens_per_minute": "many"})
    assert wrong.status_code == 422 and 'value="many"' in wrong.text
    endless = browser.post("/keys", data={"name": "mykey", "tokens_per_minute": "9" * 5000})
    assert endless.status_code == 422
    made = browser.post("/keys", data={"name": "mykey"})
    found = re.search(r"gp-[A-Za-z0-9_-]{43}", made.text)
    assert found is not None and made.status_code == 201
    page = browser.get("/keys").text
    assert "mykey" in page and found[0] not in page
    revoke = re.findall(r'action="(/keys/[^"]+/revoke)"', page)[0]
    assert browser.post(revoke).headers["location"] == "/keys"
    assert "mykey" not in browser.get("/keys").text


def test_the_chat_without_a_model_service_keeps_the_message(browser: TestClient) -> None:
    form = {"model": BUNDLED_MODEL, "message": "keep me", "mode": "text"}
    answer = browser.post("/chat", data=form)
    assert answer.status_code == 422
    assert "keep me" in answer.text and 'role="alert"' in answer.text


def test_a_stream_that_cannot_begin_is_an_error_for_the_script(browser: TestClient) -> None:
    body = {"model": "nobody", "messages": [{"role": "user", "content": "hi"}]}
    answer = browser.post("/chat/stream", json=body, headers={"Accept": "application/json"})
    assert answer.status_code == 404
    assert "nobody" in answer.json()["error"]["message"]


def test_an_unknown_page_is_a_page(browser: TestClient) -> None:
    answer = browser.get("/runs/run_none")
    assert answer.status_code == 404
    assert "<h1>" in answer.text
