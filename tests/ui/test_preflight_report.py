"""How a pre-flight report is put for a page."""

import pytest

from shared.preflight import Bin, LengthReport, TimeReport
from tests.ui.gallery_models import NEED, report, report_block
from tests.ui.texts import EVIL
from ui.preflight_report import report_view


def lengths(over: int, what: str = "row", fate: str = "left out") -> LengthReport:
    return LengthReport.model_validate(
        {
            "what": what,
            "field": "max_length",
            "limit": 1200,
            "over": over,
            "fate": fate,
            "median": 5,
            "percentile_95": 9,
            "longest": 2000,
            "histogram": [Bin(start=0, end=1201, count=4), Bin(start=1201, end=2001, count=1)],
        }
    )


@pytest.mark.parametrize(
    ("shown", "sentence"),
    [
        (lengths(0), "All fit into max_length 1,200."),
        (lengths(1), "1 row over max_length 1,200 is left out."),
        (lengths(3, "source", "cut"), "3 sources over max_length 1,200 are cut."),
    ],
)
def test_what_becomes_of_long_rows_is_said(shown: LengthReport, sentence: str) -> None:
    (histogram,) = report_view(report(lengths=[shown])).lengths
    assert histogram.sentence == sentence


def test_bars_stand_on_the_ground_and_show_what_is_beyond_the_limit() -> None:
    (histogram,) = report_view(report(lengths=[lengths(1)])).lengths
    first, second = histogram.bars
    assert (first.height, first.y, second.height, second.y) == (100, 0, 25, 75)
    assert (first.over, second.over) == (False, True)
    assert second.title == "1201 to 2000 tokens: 1 row"
    assert histogram.width == second.x + 10


def test_the_parts_of_the_memory_are_all_shown() -> None:
    shown = report_view(report()).memory
    assert sum(amount for _, amount in shown) == NEED.total + NEED.evaluation_peak


def test_a_time_that_devices_share_says_what_was_measured() -> None:
    time = TimeReport(measured=True, seconds=9.0, tokens_per_second=400, shared_by=4)
    assert "taken to be 4 times as many on 4 devices" in report_block(report(time=time))
    assert "taken to be" not in report_block(report())


def test_a_report_is_whole_without_its_page_and_hostile_texts_are_text() -> None:
    html = report_block(report())
    assert html.startswith('<div id="report"') and EVIL not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
