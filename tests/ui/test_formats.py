"""How values read on a page."""

from datetime import UTC, datetime, timedelta

import pytest

from ui import formats

NOW = datetime(2026, 11, 2, 14, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0, "0"), (12_345, "12,345"), (0.789, "0.79"), (3.0, "3")],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert formats.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (412.0, "412"),
        (306.16, "306"),
        (3.14, "3.14"),
        (8192, "8.2K"),
        (134_515_008, "134.5M"),
        (2e9, "2B"),
    ],
)
def test_compact_numbers(value: float | None, shown: str) -> None:
    assert formats.compact(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (999, "999 B"), (132_400, "132.4 kB"), (5e9, "5.0 GB")]
)
def test_sizes(value: int | None, shown: str) -> None:
    assert formats.size(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"),
        (-3, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert formats.duration(seconds) == shown


@pytest.mark.parametrize(
    ("before", "shown"),
    [
        (timedelta(seconds=-5), "just now"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=3), "3 h ago"),
        (timedelta(days=2), "2 d ago"),
        (timedelta(days=30), "3 Oct 2026"),
    ],
)
def test_times_that_passed(before: timedelta, shown: str) -> None:
    assert formats.ago(NOW - before, NOW) == shown


def test_times_are_utc_whatever_zone_they_come_in() -> None:
    there = NOW.astimezone(datetime.fromisoformat("2026-01-01T00:00:00+05:00").tzinfo)
    assert formats.moment(there) == "2 Nov 2026, 14:05 UTC"
    assert formats.iso(there) == "2026-11-02T14:05:00Z"
    assert formats.ago(None) == "never"


def test_long_texts_keep_their_ends() -> None:
    assert formats.ends("abcdef", 4) == ("abcdef", 0, "")
    assert formats.ends("abcdefg", 4) == ("ab", 3, "fg")


def test_losses_and_words() -> None:
    assert (formats.loss(0.42131), formats.loss(12.3456), formats.loss(None)) == (
        "0.4213",
        "12.35",
        "–",
    )
    assert formats.sentence("a NUL byte.") == "A NUL byte."
    assert (formats.plural(1, "row"), formats.plural(0, "row")) == ("1 row", "0 rows")
    assert formats.short_model("HuggingFaceTB/SmolLM2") == "SmolLM2"
