"""The chat's script in a real browser, against streams written by hand."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.conftest import Console
from tests.e2e.gallery_server import gallery_server
from tests.e2e.waiting import wait_until
from tests.ui.texts import EVIL, SOURCE

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with gallery_server() as (address, _):
        yield address


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Page]:
    console = Console()
    with chromium.new_context() as context:
        page = console.listen(context.new_page())
        page.goto(f"{address}/chat-new")
        yield page
    noise = "Failed to load resource"
    assert [problem for problem in console.problems if noise not in problem] == []


def answer(page: Page, *deltas: dict[str, Any], end: str = "data: [DONE]\n\n") -> list[Any]:
    """Let the next questions be answered by these deltas; what was asked comes in the list."""
    asked: list[Any] = []
    body = "".join(f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n" for delta in deltas)

    def reply(route: Route) -> None:
        asked.append(route.request.post_data_json)
        route.fulfill(content_type="text/event-stream", body=body + end)

    page.route("**/chat/stream", reply)
    return asked


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")


def test_words_of_a_model_stay_words(page: Page) -> None:
    asked = answer(page, {"role": "assistant"}, {"content": "He"}, {"content": EVIL})
    say(page, EVIL)
    expect(page.locator(".message.assistant .text")).to_have_text("He" + EVIL)
    expect(page.locator(".message.user .text")).to_have_text(EVIL)
    expect(page.get_by_label("Message")).to_have_value("")
    say(page, "and then?")
    expect(page.locator(".message.assistant .text").nth(1)).to_have_text("He" + EVIL)
    contents = [message["content"] for message in asked[1]["messages"]]
    assert contents == [EVIL, "He" + EVIL, "and then?"]
    assert asked[1]["temperature"] == 0


def test_enter_before_the_script_is_there_sends_the_form(chromium: Browser, address: str) -> None:
    with chromium.new_context() as context:
        page = context.new_page()
        page.route("**/chat.js*", lambda route: route.abort())
        page.route("**/chat", lambda route: route.fulfill(body="answered as a page"))
        page.goto(f"{address}/chat-new")
        page.get_by_label("Message").fill("one")
        page.get_by_label("Message").press("Shift+Enter")
        page.get_by_label("Message").press("End")
        page.keyboard.type("two")
        with page.expect_request("**/chat") as asked:
            page.get_by_label("Message").press("Enter")
        expect(page.locator("body")).to_have_text("answered as a page")
    sent = parse_qs(asked.value.post_data)
    assert sent["message"] == ["one\r\ntwo"]


def test_an_error_brings_the_message_back(page: Page) -> None:
    answer(page, {"content": "Half"}, end='data: {"error": {"message": "It is too busy."}}\n\n')
    say(page, "keep me")
    expect(page.locator("#messages .problem")).to_contain_text("It is too busy.")
    expect(page.get_by_label("Message")).to_have_value("keep me")
    expect(page.locator(".message")).to_have_count(0)


def test_a_stream_without_an_end_is_said_to_have_broken_off(page: Page) -> None:
    answer(page, {"content": "Half"}, end="")
    say(page, "keep me")
    expect(page.locator("#messages .problem")).to_contain_text("broke off")


def test_a_refusal_shows_the_servers_sentence(page: Page) -> None:
    refusal = {"error": {"message": "There is no model of that name."}}
    page.route("**/chat/stream", lambda route: route.fulfill(status=404, json=refusal))
    say(page, "hello")
    expect(page.locator("#messages .problem")).to_contain_text("There is no model of that name.")


def test_stop_brings_an_unanswered_message_back(page: Page) -> None:
    waiting: list[Route] = []
    page.route("**/chat/stream", lambda route: waiting.append(route))
    say(page, "slow")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.get_by_label("Message")).to_have_value("slow")
    expect(page.locator("#messages .problem")).to_have_count(0)
    assert len(waiting) == 1


def test_drafts_give_way_to_the_final_source_and_its_picture(page: Page) -> None:
    diagram = {
        "id": "dg_1",
        "rendered": True,
        "attempts": 2,
        "svg_url": "/api/diagrams/dg_1.svg",
        "png_url": "/api/diagrams/dg_1.png",
    }
    asked = answer(
        page,
        {"draft": {"attempt": 1, "text": "wrong "}},
        {"draft": {"attempt": 2, "text": "better"}},
        {"content": SOURCE},
        {"diagram": diagram},
    )
    page.get_by_text("Diagram", exact=True).first.click()
    say(page, "The user sends an order.")
    wait_until(page, "document.querySelector('.drawing img')?.naturalWidth > 50")
    expect(page.locator(".drawing .source")).to_have_text(SOURCE)
    expect(page.locator(".drawing figcaption")).to_have_text("2 attempts · SVG · PNG")
    assert asked[0]["diagram"] == {"format": "svg", "max_attempts": 3}


def test_a_diagram_that_never_rendered_shows_the_renderers_line(page: Page) -> None:
    diagram = {
        "id": "dg_1",
        "rendered": False,
        "attempts": 3,
        "error": {"line": 2, "message": EVIL},
    }
    answer(page, {"content": SOURCE}, {"diagram": diagram})
    page.get_by_text("Diagram", exact=True).first.click()
    say(page, "The user sends an order.")
    problem = page.locator(".drawing .problem")
    expect(problem).to_have_text(f"Not drawable after 3 attempts. Line 2: {EVIL}")
    expect(page.locator(".drawing .source")).to_have_text(SOURCE)


REQUEST = "req_" + "0" * 24


def rated_answer(page: Page, status: int = 204) -> list[Any]:
    """An answer that may be rated; what is said of it comes in the list."""
    said: list[Any] = []

    def reply(route: Route) -> None:
        body = 'data: {"choices": [{"delta": {"content": "Hello"}}]}\n\ndata: [DONE]\n\n'
        headers = {"x-genplat-request-id": REQUEST}
        route.fulfill(content_type="text/event-stream", body=body, headers=headers)

    def rate(route: Route) -> None:
        said.append(parse_qs(route.request.post_data or "", keep_blank_values=True))
        route.fulfill(status=status)

    page.route("**/chat/stream", reply)
    page.route(f"**/requests/{REQUEST}/feedback", rate)
    say(page, "hi")
    return said


def test_an_answer_is_rated_by_keyboard_and_the_rating_taken_back(page: Page) -> None:
    said = rated_answer(page)
    up = page.get_by_role("button", name="Good answer")
    down = page.get_by_role("button", name="Bad answer")
    expect(up).to_have_attribute("aria-pressed", "false")
    up.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Thank you.")).to_be_visible()
    expect(up).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(down).to_have_attribute("aria-pressed", "true")
    expect(up).to_have_attribute("aria-pressed", "false")
    down.click()
    expect(page.get_by_text("Taken back.")).to_be_visible()
    expect(down).to_have_attribute("aria-pressed", "false")
    assert said == [{"rating": ["up"]}, {"rating": ["down"]}, {"rating": [""]}]
    history = json.loads(page.locator("#history").input_value())
    assert history[-1] == {
        "role": "assistant",
        "content": "Hello",
        "model": "diagrams",
        "request_id": REQUEST,
    }


def test_a_rating_that_is_not_stored_is_not_shown_as_one(page: Page) -> None:
    rated_answer(page, status=503)
    page.get_by_role("button", name="Bad answer").click()
    expect(page.get_by_text("That could not be stored.")).to_be_visible()
    pressed = page.get_by_role("button", name="Bad answer")
    expect(pressed).to_have_attribute("aria-pressed", "false")


def test_an_answer_that_the_log_does_not_have_has_no_thumbs(page: Page) -> None:
    answer(page, {"content": "Hello"})
    say(page, "hi")
    expect(page.locator(".message.assistant .text")).to_have_text("Hello")
    expect(page.get_by_role("button", name="Good answer")).to_have_count(0)
