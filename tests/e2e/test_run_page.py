"""A run's page in a real browser: its charts, its samples, and what survives live events."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.e2e.conftest import Console
from tests.e2e.gallery_server import gallery_server
from tests.e2e.waiting import wait_until
from tests.ui.gallery_objects import metrics, run, samples
from tests.ui.gallery_runs import run_context
from ui.charts import curves_of, points_json
from ui.rendering import render_block
from ui.samples import shown_samples

pytestmark = pytest.mark.e2e

RANGES = "[...document.querySelectorAll('.chart:not([hidden])')].map((f) => f.dataset.range)"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with gallery_server() as (address, _):
        yield address


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    console = Console()
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield console.listen(context.new_page())
    # What the stream's extension says of a connection that ended before the run did.
    lost = "[object Event]"
    assert [problem for problem in console.problems if problem != lost] == []


def stream(**events: str) -> str:
    """Events as the server sends them; the connection ends after them."""
    lines = (
        f"event: {name}\n" + "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
        for name, html in events.items()
    )
    return "".join(lines)


def hold_streams(page: Page) -> list[Route]:
    held: list[Route] = []
    page.route("**/panel", lambda route: held.append(route))
    return held


def send(page: Page, held: list[Route], **events: str) -> None:
    """Answer the page's (next) connection with these events, and end it."""
    deadline = time.monotonic() + 30
    while not held:
        assert time.monotonic() < deadline, "the page does not connect"
        page.wait_for_timeout(20)
    held.pop(0).fulfill(content_type="text/event-stream", body=stream(**events))


def points(steps: int, since: int) -> str:
    news = curves_of([row for row in metrics(steps) if row.step >= since])
    return render_block("runs/show.html", "points", points=points_json(news, since=since))


def chart(page: Page, title: str) -> Locator:
    return page.locator(".chart").filter(has=page.get_by_role("heading", name=title, exact=True))


def test_every_curve_is_drawn_and_its_latest_value_said(page: Page, address: str) -> None:
    page.goto(f"{address}/run-done")
    titles = ("Loss", "Token accuracy", "Learning rate", "Gradient norm", "Speed", "Memory")
    for title in titles:
        expect(page.locator(".chart:not([hidden])").filter(has_text=title).first).to_be_visible()
    assert page.locator(".chart canvas").count() == 6
    expect(chart(page, "Loss")).to_have_attribute("data-drawn", "212")
    last = metrics(212)[-1]
    expect(chart(page, "Loss").locator(".chart-read")).to_contain_text(f"{last.loss:.4f}")
    expect(page.locator("#chart-empty")).to_be_hidden()


def test_a_queued_runs_page_says_when_the_curves_begin(page: Page, address: str) -> None:
    page.goto(f"{address}/run-queued")
    expect(page.locator("#chart-empty")).to_be_visible()
    assert page.locator(".chart:not([hidden])").count() == 0


def test_curves_begin_before_the_first_evaluation(page: Page, address: str) -> None:
    held = hold_streams(page)
    page.goto(f"{address}/run-begun")
    expect(chart(page, "Loss")).to_have_attribute("data-drawn", "1")
    expect(chart(page, "Loss").locator(".chart-read")).to_contain_text("Validation–")
    send(page, held, points=points(21, since=1))
    expect(chart(page, "Loss").locator(".chart-read")).not_to_contain_text("–")


def test_the_cursor_is_shared_and_read_by_keyboard(page: Page, address: str) -> None:
    page.goto(f"{address}/run")
    loss = chart(page, "Loss").locator(".chart-box")
    loss.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    row = metrics(84)[73]
    expect(page.locator("#chart-at")).to_have_text("Step 74")
    expect(chart(page, "Loss").locator(".chart-read")).to_contain_text(f"{row.loss:.4f}")
    rate = chart(page, "Gradient norm").locator(".chart-read")
    expect(rate).to_have_text(str(float(f"{row.grad_norm:.3g}")))
    expect(page.locator("#chart-said")).to_contain_text("Step 74, Training")
    box = loss.locator(".u-over").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 60)
    expect(page.locator("#chart-at")).to_have_text("Step 84")


def shown_range(page: Page) -> Any:
    ranges = page.evaluate(RANGES)
    assert len(set(ranges)) == 1, ranges
    return json.loads(ranges[0])


def test_a_zoom_is_shared_and_survives_new_points(page: Page, address: str) -> None:
    held = hold_streams(page)
    page.goto(f"{address}/run")
    assert shown_range(page) == [1, 84]
    box = chart(page, "Loss").locator(".u-over").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60, steps=4)
    page.mouse.up()
    reset = page.get_by_role("button", name="Show all")
    expect(reset).to_be_visible()
    zoomed = shown_range(page)
    assert 15 < zoomed[0] < 30 < zoomed[1] < 50
    send(page, held, points=points(90, since=84))
    expect(chart(page, "Loss")).to_have_attribute("data-drawn", "90")
    assert shown_range(page) == zoomed
    reset.focus()
    page.keyboard.press("Enter")
    expect(reset).to_be_hidden()
    assert shown_range(page) == [1, 90]
    expect(chart(page, "Loss").locator(".chart-box")).to_be_focused()


def test_keys_zoom_and_a_double_click_shows_everything(page: Page, address: str) -> None:
    page.goto(f"{address}/run-done")
    loss = chart(page, "Loss")
    loss.locator(".chart-box").focus()
    page.keyboard.press("+")
    assert shown_range(page) != [1, 212]
    page.keyboard.press("Escape")
    assert shown_range(page) == [1, 212]
    page.keyboard.press("+")
    loss.locator(".u-over").dblclick()
    assert shown_range(page) == [1, 212]


def test_a_resumed_run_takes_back_what_it_measures_again(page: Page, address: str) -> None:
    held = hold_streams(page)
    page.goto(f"{address}/run")
    send(page, held, points=points(50, since=40))
    expect(chart(page, "Loss")).to_have_attribute("data-drawn", "50")
    assert shown_range(page) == [1, 50]
    send(page, held, points=points(7, since=0))
    expect(chart(page, "Loss")).to_have_attribute("data-drawn", "7")


def samples_block(step: int) -> str:
    written = samples(step)
    context = run_context(run(), samples=written)
    context["shown_samples"] = shown_samples(written.samples)
    return render_block("runs/show.html", "samples", **context)


def test_an_older_evaluation_stays_until_the_latest_is_wanted(page: Page, address: str) -> None:
    held = hold_streams(page)
    page.goto(f"{address}/run")
    page.route(
        "**/runs/run_1/samples*",
        lambda route: route.fulfill(
            content_type="text/html",
            body=samples_block(42 if "step=42" in route.request.url else 84),
        ),
    )
    page.get_by_label("Evaluation at step").select_option("42")
    expect(page.locator("#samples")).to_contain_text("since step 21")
    send(page, held, samples=samples_block(84), foot="<p>Came.</p>")
    expect(page.locator("#foot")).to_have_text("Came.")
    expect(page.locator("#samples")).to_contain_text("since step 21")
    page.get_by_role("link", name="Follow the latest").click()
    expect(page.locator("#samples")).to_contain_text("since step 63")
    send(page, held, samples="<p>Newer.</p>")
    expect(page.locator("#samples")).to_have_text("Newer.")


def test_what_loses_something_asks_first(chromium: Browser, address: str) -> None:
    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{address}/run")
        sure = page.get_by_role("button", name="Cancel the run")
        assert not sure.is_visible()
        page.get_by_role("button", name="Cancel run").click()
        assert sure.is_visible()
        page.get_by_role("button", name="Keep it").click()
        assert not sure.is_visible()


def test_more_datasets_than_the_form_shows_can_be_mixed(page: Page, address: str) -> None:
    page.goto(f"{address}/run-new")
    page.get_by_text("Mix several datasets").click()
    add = page.get_by_role("button", name="Add another")
    for _ in range(12):
        add.click()
    expect(add).to_be_hidden()
    expect(page.get_by_label("Dataset 16", exact=True)).to_be_focused()
    page.get_by_label("Dataset 16", exact=True).select_option("ds_1")
    page.get_by_label("Weight of dataset 16").fill("3")
    sent = page.evaluate("[...new FormData(document.querySelector('form.form')).getAll('weights')]")
    assert sent == ["1"] * 14 + ["3"]


def test_runs_are_compared_by_step_in_one_chart(page: Page, address: str) -> None:
    page.goto(f"{address}/runs-compare")
    wait_until(page, "document.querySelectorAll('.chart[data-drawn]').length == 4")
    assert shown_range(page) == [1, 212]
    page.get_by_text("settings that are the same").click()
    expect(page.locator(".equal")).to_contain_text("seed")
