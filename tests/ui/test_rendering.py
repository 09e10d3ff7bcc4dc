"""Templates: escaping, missing values, and blocks that are the same inside and outside a page."""

import re

import pytest
from jinja2 import UndefinedError

from gateway.pages.run_panel import BLOCKS, TEMPLATE
from tests.ui.gallery import pages
from tests.ui.gallery_objects import run
from tests.ui.gallery_runs import run_context, run_page
from tests.ui.texts import EVIL
from ui.rendering import error_page, render, render_block


@pytest.mark.parametrize("name", list(pages()))
def test_hostile_texts_stay_texts_on_every_page(name: str) -> None:
    html = pages()[name]
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "49" not in re.findall(r"onerror=alert\(1\)&gt;&#39;&#34;(\d+)", html)
    assert html.startswith("<!doctype html>")


def test_the_gallery_really_holds_hostile_texts() -> None:
    assert sum("&lt;script&gt;alert" in html for html in pages().values()) >= 10
    assert EVIL not in error_page(status=500, message=EVIL)


def test_a_missing_value_is_an_error_and_no_empty_space() -> None:
    with pytest.raises(UndefinedError):
        render("runs/list.html", runs=[])


@pytest.mark.parametrize("block", [block for _, block in BLOCKS])
def test_a_block_alone_is_the_block_of_the_page(block: str) -> None:
    shown = run()
    alone = render_block(TEMPLATE, block, **run_context(shown))
    assert alone in run_page(shown)


def test_the_panel_tells_how_far_the_run_is() -> None:
    panel = render_block(TEMPLATE, "panel", **run_context(run()))
    assert "84</strong> of 212" in panel


def test_a_running_page_connects_and_a_final_one_does_not() -> None:
    running, failed = pages()["run"], pages()["run-failed"]
    assert 'sse-connect="/runs/run_1/panel"' in running
    assert "sse-connect" not in failed
    assert "Cancel run" in running and "Run again" in failed
    assert "Delete this run" in failed and "Delete this run" not in running


def test_the_stream_is_connected_outside_of_what_it_replaces() -> None:
    page = pages()["run"]
    connect = page.index("sse-connect=")
    places = [page.index(f'sse-swap="{event}"') for event, _ in BLOCKS]
    assert [connect, *places] == sorted([connect, *places])
    assert 'sse-close="done"' in page


BUTTONS = {
    "run-queued": {"pause", "cancel"},
    "run": {"pause", "stop", "cancel"},
    "run-pausing": {"cancel"},
    "run-conflict": {"cancel"},
    "run-paused": {"resume", "stop", "cancel"},
    "run-cancelled": {"delete"},
    "run-failed": {"delete"},
    "run-done": {"deploy", "delete"},
    "run-deployed": {"delete"},
}


@pytest.mark.parametrize("name", list(BUTTONS))
def test_what_may_be_done_depends_on_how_the_run_stands(name: str) -> None:
    page = pages()[name]
    assert set(re.findall(r'action="/runs/run_1/(\w+)"', page)) == BUTTONS[name]
    assert ('?continue=run_1"' in page) == (name in ("run-done", "run-deployed"))
    asked_first = re.findall(r'popovertarget="confirm-(\w+)">', page)
    assert set(asked_first) == BUTTONS[name] & {"stop", "cancel"}


def test_an_undrawable_diagram_shows_the_renderers_line() -> None:
    page = pages()["chat"]
    assert "Not drawable after 3 attempts." in page and "Line 3: " in page
    assert 'src="/api/diagrams/dg_1.svg"' in page and 'href="/api/diagrams/dg_1.png"' in page
