"""Templates: escaping, missing values, and blocks that are the same inside and outside a page."""

import re

import pytest
from jinja2 import UndefinedError

from tests.ui.gallery import EVIL, log_lines, metrics, pages, run, run_page
from ui.charts import loss_points
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


def test_the_panel_alone_is_the_panel_of_the_page() -> None:
    shown = run()
    context = {
        "run": shown,
        "elapsed": 243.0,
        "phase_text": "Training",
        "points": loss_points(metrics(shown.step)),
        "evaluations": [],
        "samples": [],
        "snippet": "",
        "spec_yaml": "method: lora",
        "decided": [],
        "log": log_lines(),
    }
    panel = render_block("runs/show.html", "panel", **context)
    page = run_page(shown, **context)
    assert panel in page
    assert 'id="loss-points"' in panel and "84</strong> of 212" in panel


def test_a_running_page_connects_and_a_final_one_does_not() -> None:
    running, failed = pages()["run"], pages()["run-failed"]
    assert 'sse-connect="/runs/run_1/panel"' in running
    assert "sse-connect" not in failed
    assert "Cancel run" in running and "Run again" in failed
    assert "Delete this run" in failed and "Delete this run" not in running


def test_the_stream_is_connected_outside_of_what_it_replaces() -> None:
    page = pages()["run"]
    connect = page.index("sse-connect=")
    places = [page.index(f'sse-swap="{event}"') for event in ("head", "panel", "foot")]
    assert [connect, *places] == sorted([connect, *places])
    assert 'sse-close="done"' in page


def test_an_undrawable_diagram_shows_the_renderers_line() -> None:
    page = pages()["chat"]
    assert "Not drawable after 3 attempts." in page and "Line 3: " in page
    assert 'src="/api/diagrams/dg_1.svg"' in page and 'href="/api/diagrams/dg_1.png"' in page
