"""The request log's pages over a model service that answers."""

import re
from collections.abc import Iterator

import httpx
import pytest

from gateway import keys
from gateway.settings import GatewaySettings
from tests.gateway.api.live import Live, chat, live_gateway
from tests.gateway.conftest import LOGIN_TOKEN


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        live.deploy("small")
        yield live


@pytest.fixture
def browser(live: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live.url, timeout=20) as client:
        client.get("/login", params={"token": LOGIN_TOKEN})
        client.headers["Sec-Fetch-Site"] = "same-origin"
        yield client


def ask(live: Live, text: str, **changes: object) -> str:
    answer = chat(live, "small", messages=[{"role": "user", "content": text}], **changes)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-genplat-request-id"]


def shown(page: httpx.Response) -> list[str]:
    assert page.status_code == 200, page.text
    return re.findall(r'href="/requests/(req_[0-9a-f]{24})"', page.text)


def test_the_list_tells_what_was_asked_and_the_filter_what_is_shown(
    live: Live, browser: httpx.Client
) -> None:
    assert "No request yet" in browser.get("/requests").text
    first, second = ask(live, "red apples"), ask(live, "green pears")
    page = browser.get("/requests")
    assert shown(page) == [second, first]
    assert "red apples" in page.text and "Hello there!" in page.text
    assert shown(browser.get("/requests", params={"q": "apples", "route": ""})) == [first]
    assert shown(browser.get("/requests?served_by=small&outcome=ok&fallback=false")) == [
        second,
        first,
    ]
    none = browser.get("/requests", params={"outcome": "failed"})
    assert "No request is like that." in none.text
    assert chat(live, "nowhere").status_code == 404
    failed = browser.get("/requests", params={"outcome": "failed"})
    assert len(shown(failed)) == 1 and "nowhere" in failed.text


def test_a_wrong_condition_is_said_beside_its_field(live: Live, browser: httpx.Client) -> None:
    ask(live, "anything")
    answer = browser.get("/requests", params={"since": "yesterday", "kind": "dance"})
    assert answer.status_code == 422
    assert 'id="since-error"' in answer.text and 'id="kind-error"' in answer.text
    assert 'value="yesterday"' in answer.text


def test_older_ones_are_reached_with_the_same_filter(live: Live, browser: httpx.Client) -> None:
    ids = [ask(live, f"number {number}", metadata={"a": "b"}) for number in range(51)]
    ask(live, "another one")
    page = browser.get("/requests", params={"tag": "a:b"})
    assert shown(page) == ids[:0:-1]
    older = re.search(r'class="pager"><a[^>]* href="([^"]+)"', page.text)
    assert older is not None
    assert shown(browser.get(older[1].replace("&amp;", "&"))) == ids[:1]


def test_a_dataset_is_made_of_what_is_shown(live: Live, browser: httpx.Client) -> None:
    ask(live, "red apples")
    ask(live, "green pears")
    form = {"name": "fruit", "q": "pears"}
    made = browser.post("/requests/dataset", data=form)
    assert made.status_code == 303
    assert re.fullmatch(r"/datasets/ds_\w+", made.headers["location"])
    page = browser.get(made.headers["location"]).text
    assert "green pears" in page and "red apples" not in page
    nameless = browser.post("/requests/dataset", data={"q": "pears"})
    assert nameless.status_code == 422 and 'id="name-error"' in nameless.text
    nothing = browser.post("/requests/dataset", data={"name": "fruit", "q": "plums"})
    assert nothing.status_code == 422
    wrong = browser.post("/requests/dataset", data={"name": "fruit", "since": "never"})
    assert wrong.status_code == 422 and 'id="since-error"' in wrong.text


def test_an_answer_is_rated_and_corrected(live: Live, browser: httpx.Client) -> None:
    request_id = ask(live, "a question", temperature=0.5)
    page = browser.get(f"/requests/{request_id}").text
    assert "a question" in page and "small answered." in page and "temperature" in page
    form = {"rating": "down", "comment": "No.", "correction": "As it should be"}
    rated = browser.post(f"/requests/{request_id}/feedback", data=form)
    assert (rated.status_code, rated.headers["location"]) == (303, f"/requests/{request_id}")
    page = browser.get(f"/requests/{request_id}").text
    assert ">As it should be</textarea>" in page and ">No.</textarea>" in page
    assert re.search(r'value="down" checked', page)
    assert "corrected" in browser.get("/requests", params={"feedback": "down"}).text
    # Nothing but the rating is sent by the chat, and nothing but it is changed.
    assert browser.post(f"/requests/{request_id}/feedback", data={"rating": ""}).status_code == 303
    page = browser.get(f"/requests/{request_id}").text
    assert re.search(r'value="" checked', page) and ">No.</textarea>" in page
    wrong = browser.post(f"/requests/{request_id}/feedback", data={"rating": "good"})
    assert wrong.status_code == 422 and 'role="alert"' in wrong.text
    long = browser.post(f"/requests/{request_id}/feedback", data={"comment": "x" * 4001})
    assert long.status_code == 422 and 'id="comment-error"' in long.text


def test_what_is_somebody_elses_is_not_there(live: Live, browser: httpx.Client) -> None:
    _, secret = keys.create_key(
        database=live.services.database, owner="somebody-else", name="theirs"
    )
    request_id = ask(live, "mine alone")
    with httpx.Client(base_url=live.url) as other:
        other.post("/login", data={"key": secret})
        other.headers["Sec-Fetch-Site"] = "same-origin"
        assert other.get(f"/requests/{request_id}").status_code == 404
        assert (
            other.post(f"/requests/{request_id}/feedback", data={"rating": "up"}).status_code == 404
        )
        assert "No request yet" in other.get("/requests").text
    assert browser.get(f"/requests/{request_id}").status_code == 200


def test_the_chats_script_gets_an_answer_without_a_page(live: Live, browser: httpx.Client) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
    streamed = browser.post("/chat/stream", json=body)
    path = f"/requests/{streamed.headers['x-genplat-request-id']}/feedback"
    wants = {"Accept": "application/json"}
    assert browser.post(path, data={"rating": "up"}, headers=wants).status_code == 204
    assert browser.get("/requests", params={"feedback": "up"}).text.count("Thumbs up</span>") == 1
    gone = browser.post("/requests/req_none/feedback", data={"rating": "up"}, headers=wants)
    assert gone.status_code == 404 and "no request" in gone.json()["error"]["message"]


def test_the_chat_without_javascript_offers_thumbs(live: Live, browser: httpx.Client) -> None:
    page = browser.post("/chat", data={"model": "small", "message": "one", "mode": "text"}).text
    paths = set(re.findall(r'formaction="(/requests/req_[0-9a-f]{24}/feedback)"', page))
    assert len(paths) == 1
    rated = browser.post(paths.pop(), data={"rating": "up"})
    assert "Good" in browser.get(rated.headers["location"]).text


def test_what_was_kept_out_shows_no_words(live: Live, browser: httpx.Client) -> None:
    request_id = ask(live, "a secret", store=False)
    page = browser.get(f"/requests/{request_id}")
    assert page.status_code == 200
    assert "a secret" not in page.text and 'name="correction"' not in page.text
    assert "not kept" in page.text
