"""Every page of the gallery in a real browser: policy, width, names, contrast, hostile texts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.e2e.conftest import Console
from tests.e2e.gallery_server import gallery_server

pytestmark = pytest.mark.e2e

ACCESSIBILITY = Path(__file__).with_name("accessibility.js").read_text(encoding="utf-8")
# What stands outside of the screen, except where it can be scrolled to inside a box.
TOO_WIDE = """() => document.documentElement.scrollWidth > innerWidth
  ? [...document.querySelectorAll("body *")]
      .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, pre"))
      .slice(0, 5).map((e) => e.tagName + "." + e.className)
      .concat("scrollWidth " + document.documentElement.scrollWidth)
  : []"""


@pytest.fixture(scope="module")
def gallery() -> Iterator[tuple[str, list[str]]]:
    with gallery_server() as served:
        yield served


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_breaks_the_policy_or_lacks_names_and_contrast(
    chromium: Browser, gallery: tuple[str, list[str]], scheme: str
) -> None:
    address, names = gallery
    with chromium.new_context(color_scheme=scheme) as context:  # type: ignore[arg-type]
        console = Console()
        page = console.listen(context.new_page())
        found: dict[str, list[str]] = {}
        for name in names:
            page.goto(f"{address}/{name}", wait_until="load")
            complaints = [*page.evaluate(ACCESSIBILITY), *console.problems]
            console.problems.clear()
            if complaints:
                found[name] = complaints
    assert found == {}


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_page_is_wider_than_the_screen(
    chromium: Browser, gallery: tuple[str, list[str]], width: int
) -> None:
    address, names = gallery
    with chromium.new_context(viewport={"width": width, "height": 740}) as context:
        page = context.new_page()
        found = {}
        for name in names:
            page.goto(f"{address}/{name}", wait_until="load")
            if wide := page.evaluate(TOO_WIDE):
                found[name] = wide
    assert found == {}


def test_the_menu_opens_by_keyboard_on_a_phone(
    chromium: Browser, gallery: tuple[str, list[str]]
) -> None:
    address, _ = gallery
    with chromium.new_context(viewport={"width": 360, "height": 740}) as context:
        page = context.new_page()
        page.goto(f"{address}/home")
        link = page.get_by_role("navigation").get_by_role("link", name="Datasets")
        assert not link.is_visible()
        for _ in range(3):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert link.is_visible()


def test_the_share_hides_where_another_dataset_validates(
    chromium: Browser, gallery: tuple[str, list[str]]
) -> None:
    address, _ = gallery
    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{address}/run-new")
        share = page.get_by_label("Share kept for validation")
        assert share.is_visible()
        page.get_by_label("Validate with").select_option("ds_2")
        assert not share.is_visible()
        page.get_by_label("Validate with").select_option("")
        assert share.is_visible()


ENDING = (
    "event: log\ndata: <p>Done.</p>\n\nevent: foot\ndata: <p>Over.</p>\n\nevent: done\ndata: \n\n"
)


def test_what_is_being_selected_outlives_the_end_of_a_run(
    chromium: Browser, gallery: tuple[str, list[str]]
) -> None:
    address, _ = gallery
    with chromium.new_context() as context:
        page = context.new_page()
        streams: list[Route] = []
        page.route("**/panel", lambda route: streams.append(route))
        with page.expect_request("**/panel"):
            page.goto(f"{address}/run")
        page.evaluate("getSelection().selectAllChildren(document.getElementById('log'))")
        streams[0].fulfill(content_type="text/event-stream", body=ENDING)
        expect(page.locator("#foot")).to_have_text("Over.")
        assert "Attempt 1" in page.evaluate("getSelection().toString()")
        # Nobody selects any more: now the page may show how the run ended.
        with page.expect_navigation():
            page.evaluate("getSelection().removeAllRanges()")


def test_the_end_of_a_run_shows_at_once_to_those_who_select_nothing(
    chromium: Browser, gallery: tuple[str, list[str]]
) -> None:
    address, _ = gallery
    with chromium.new_context() as context:
        page = context.new_page()
        page.route(
            "**/panel",
            lambda route: route.fulfill(content_type="text/event-stream", body=ENDING),
        )
        page.goto(f"{address}/run")
        expect(page.locator("#log-panel")).to_have_text("Done.")


def test_code_can_be_copied(chromium: Browser, gallery: tuple[str, list[str]]) -> None:
    address, _ = gallery
    with chromium.new_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        page = context.new_page()
        page.goto(f"{address}/run-done")
        page.locator("[data-copy=spec-yaml]").click()
        page.get_by_role("button", name="Copied").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
    assert "method: lora" in copied
