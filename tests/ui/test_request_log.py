"""The filter's form and the sentences about a request."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.request_log.queries import RequestFilter
from tests.ui.gallery_requests import FAILED, STEPPED_IN, WITHHELD, logged
from ui import request_filter
from ui.chat_form import Turn
from ui.formats import latency
from ui.request_story import story


def test_the_form_has_every_field_of_the_filter() -> None:
    assert set(request_filter.FIELDS) == set(RequestFilter.model_fields)
    for name, choices in request_filter.CHOICES.items():
        for value, _ in choices:
            values = request_filter.values_of({name: value})
            RequestFilter.model_validate(request_filter.conditions(values))


def test_days_are_whole_ones() -> None:
    values = request_filter.values_of({"since": "2026-11-02", "until": "2026-11-02"})
    found = RequestFilter.model_validate(request_filter.conditions(values))
    assert found.since == datetime(2026, 11, 2, tzinfo=UTC)
    assert found.until == datetime(2026, 11, 3, tzinfo=UTC)


@pytest.mark.parametrize("day", ["tomorrow", "2026-13-01", "9999-12-31"])
def test_what_is_no_day_is_left_to_the_filter(day: str) -> None:
    values = request_filter.values_of({"until": day})
    assert request_filter.conditions(values) == {"until": day}
    with pytest.raises(ValueError, match="until"):
        RequestFilter.model_validate(request_filter.conditions(values))


@given(st.dictionaries(st.sampled_from(request_filter.FIELDS), st.text().map(str.strip)))
def test_a_link_keeps_the_filter(given: dict[str, str]) -> None:
    values = request_filter.values_of(given)
    link = request_filter.query(values)
    assert request_filter.values_of(dict(parse_qsl(link))) == values
    assert "after=x" in request_filter.query(values, after="x")
    assert "q=" not in request_filter.query(values | {"tag": ""}, q="").split("&")


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({}, ["The route support drew upstream/large.", "upstream/large answered."]),
        (
            STEPPED_IN,
            [
                "The route support drew upstream/large.",
                "small stepped in for 1 before it (upstream_500).",
            ],
        ),
        (FAILED, ["Nobody answered: the status was 404 (model_not_found)."]),
        (
            WITHHELD,
            [
                "The route support drew upstream/large.",
                "upstream/large answered.",
                "That broke off, and small went on with the answer.",
            ],
        ),
        (
            WITHHELD | {"fallback_reason": "upstream_cut"},
            [
                "The route support drew upstream/large.",
                "upstream/large answered.",
                "That broke off (upstream_cut), and small went on with the answer.",
            ],
        ),
        (
            {"status": 499, "route": None, "drawn": "support"},
            ["upstream/large answered.", "Whoever asked left before the end."],
        ),
        (
            {"status": 502, "error_code": "stream_cut", "shadow_of": "req_2", "route": None},
            [
                "A copy of req_2, made for comparison; nobody waited for it.",
                "support was asked for, which is upstream/large.",
                "upstream/large answered.",
                "The answer broke off with the status 502 (stream_cut).",
            ],
        ),
    ],
)
def test_the_way_of_a_request_is_told(changes: dict[str, Any], sentences: list[str]) -> None:
    assert story(logged(**changes)) == sentences


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.0004, "0 ms"), (0.0854, "85 ms"), (2.44, "2.4 s"), (125, "2 min 05 s")],
)
def test_short_times_are_told_shortly(seconds: float | None, text: str) -> None:
    assert latency(seconds) == text


@pytest.mark.parametrize("made_up", ["req_1", "../keys", "req_" + "g" * 24, "req_" + "a" * 25])
def test_an_id_that_is_none_rates_nothing(made_up: str) -> None:
    turn = {"role": "assistant", "content": "x"}
    assert Turn.model_validate(turn | {"request_id": made_up}).rated_as is None
    whole = "req_" + "a" * 24
    assert Turn.model_validate(turn | {"request_id": whole}).rated_as == whole
