"""The chat and the try-it box over a model service that answers."""

import json
import re
from collections.abc import Iterator
from html import unescape

import httpx
import pytest

from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.conftest import LOGIN_TOKEN
from tests.gateway.fake_inference import BROKEN, SOURCE


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


@pytest.fixture
def browser(live: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live.url, timeout=20) as client:
        client.get("/login", params={"token": LOGIN_TOKEN})
        client.headers["Sec-Fetch-Site"] = "same-origin"
        yield client


def history_of(page: str) -> str:
    found = re.search(r'name="history" id="history" value="([^"]*)"', page)
    assert found is not None
    return unescape(found[1])


def test_a_conversation_without_javascript(live: Live, browser: httpx.Client) -> None:
    form = {"model": BUNDLED_MODEL, "message": "one", "mode": "text"}
    first = browser.post("/chat", data=form)
    assert first.status_code == 200 and "Hello there!" in first.text
    again = form | {"message": "two", "history": history_of(first.text)}
    second = browser.post("/chat", data=again)
    sent = [message["content"] for message in live.inference.asked[-1]["messages"]]
    assert sent == ["one", "Hello there!", "two"]
    assert second.text.count('class="message assistant"') == 2 + 1  # and the script's template


def test_a_diagram_without_javascript(live: Live, browser: httpx.Client) -> None:
    form = {"model": BUNDLED_MODEL, "message": "draw", "mode": "diagram", "max_attempts": "2"}
    page = browser.post("/chat", data=form).text
    assert live.inference.asked[-1]["diagram"] == {"format": "svg", "max_attempts": 2}
    picture = re.search(r'<img src="(/api/diagrams/[^"]+\.svg)"', page)
    assert picture is not None and "Alice -&gt; Bob" in page
    assert browser.get(picture[1]).headers["content-type"].startswith("image/svg+xml")


def test_a_diagram_that_never_renders_shows_why(live: Live, browser: httpx.Client) -> None:
    live.inference.drawing = BROKEN
    form = {"model": BUNDLED_MODEL, "message": "draw", "mode": "diagram"}
    page = browser.post("/chat", data=form).text
    assert "Not drawable after 3 attempts." in page
    assert "Line 2: Syntax Error?" in page and "nonsense" in page


def test_a_wrong_number_is_said_and_the_conversation_kept(browser: httpx.Client) -> None:
    history = json.dumps([{"role": "user", "content": "before"}])
    form = {"model": BUNDLED_MODEL, "message": "now", "temperature": "hot", "history": history}
    answer = browser.post("/chat", data=form)
    assert answer.status_code == 422
    assert 'id="temperature-error"' in answer.text
    assert "before" in answer.text and ">now</textarea>" in answer.text


def test_the_stream_passes_drafts_on_and_ends_with_the_picture(
    live: Live, browser: httpx.Client
) -> None:
    body = {
        "model": BUNDLED_MODEL,
        "messages": [{"role": "user", "content": "draw"}],
        "diagram": {"format": "svg", "max_attempts": 3},
    }
    answer = browser.post("/chat/stream", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, end = [line[5:].strip() for line in answer.text.splitlines() if line]
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    assert end == "[DONE]"
    assert deltas[0]["draft"] == {"attempt": 1, "text": "@start"}
    assert "".join(delta.get("content") or "" for delta in deltas) == SOURCE
    assert deltas[-1]["diagram"]["svg_url"].startswith("/api/diagrams/dg_")


def test_a_finished_run_is_deployed_by_one_click_and_tried(
    live: Live, browser: httpx.Client
) -> None:
    run = live.succeeded_run()
    page = browser.get(f"/runs/{run.id}").text
    assert f'action="/runs/{run.id}/deploy"' in page
    deployed = browser.post(f"/runs/{run.id}/deploy")
    name = deployed.headers["location"].rpartition("/")[2]
    tried = browser.post(f"/deployments/{name}/try", data={"inputs": "hello"})
    assert tried.status_code == 200 and "Hello there!" in tried.text
    assert f"/deployments/{name}" in browser.get(f"/runs/{run.id}").text


def test_the_buttons_of_a_run_change_while_its_page_is_watched(
    live: Live, browser: httpx.Client
) -> None:
    form = {"dataset_id": "ds_test", "base_model": BUNDLED_MODEL}
    path = browser.post("/runs", data=form).headers["location"]
    events: list[tuple[str, str]] = []
    with browser.stream("GET", f"{path}/panel") as stream:
        for line in stream.iter_lines():
            kind, _, rest = line.partition(": ")
            if kind == "event":
                events.append((rest, ""))
            elif kind == "data":
                events[-1] = (events[-1][0], events[-1][1] + rest)
            if events and events[-1][0] == "panel" and not line:
                live.http.post(f"/api{path}/cancel")
    heads = [html for name, html in events if name == "head"]
    assert "Cancel run" in heads[0]
    assert "Cancel run" not in heads[-1] and "Run again" in heads[-1]
    assert [name for name, _ in events][-2:] == ["foot", "done"]
    assert [f"{path}/delete" in html for name, html in events if name == "foot"] == [True]


def test_a_taken_name_does_not_stop_the_one_click(live: Live, browser: httpx.Client) -> None:
    spec = {"suffix": "Same Name"}
    one, two = (live.succeeded_run(spec=spec) for _ in range(2))
    assert browser.post(f"/runs/{one.id}/deploy").headers["location"] == "/deployments/same-name"
    assert (
        browser.post(f"/runs/{two.id}/deploy")
        .headers["location"]
        .startswith("/deployments/same-name-")
    )


def test_an_example_of_every_choice_is_offered(live: Live, browser: httpx.Client) -> None:
    run = live.succeeded_run()
    chat = browser.get("/chat", params={"model": run.fine_tuned_model}).text
    assert f'value="{run.fine_tuned_model}" selected' in chat
    assert f'value="{BUNDLED_MODEL}"' in chat
    assert f'<option value="{run.id}"' in browser.get("/deployments/new").text
