"""What has a form is masked, what only looks a little like it stays."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.request_log.masking import mask


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Write to jane.doe+x@mail.example.co.uk, please.", "Write to [email], please."),
        ("Jürgen <jürgen@exämple.de>", "Jürgen <[email]>"),
        ("My key is sk-proj-AbCdEfGhIjKlMnOp123, keep it.", "My key is [key], keep it."),
        ("gp-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", "[key]"),
        ("AKIAIOSFODNN7EXAMPLE and ghp_abcdefghijklmnopqrst0123", "[key] and [key]"),
        ("postgres://me:secret@db/x", "postgres://[password]@db/x"),
        ("Pay with 4111 1111 1111 1111 today", "Pay with [card] today"),
        ("card 5500-0000-0000-0004.", "card [card]."),
        ("DE89 3704 0044 0532 0130 00 or GB82WEST12345698765432", "[iban] or [iban]"),
        ("SSN 078-05-1120", "SSN [ssn]"),
        ("from 192.168.10.7 to 8.8.8.8:53", "from [ip] to [ip]:53"),
        ("+49 170 1234567 or (030) 123456 or 555-123-4567.", "[phone] or [phone] or [phone]."),
        ("+1 (415) 555-2671", "[phone]"),
    ],
)  # fmt: skip
def test_personal_data_and_secrets_are_masked(text: str, kept: str) -> None:
    assert mask(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a@b",
        "@startuml\nAlice -> Bob: 2026-11-22 12:30\n@enduml",
        # No card's check digit, no IBAN's remainder.
        "order 4111 1111 1111 1112",
        "DE11 3704 5544 1532 2130 99",
        "version 3.11.7, 1.2.3.4.5, 999.1.1.1",
        "In 1998 there were 12,345,678 of 20000000.",
        "pi is 3.14159265358979, e 2.718281828459045",
        "skip-this-one task-force disk-usage-report",
        "9780306406157 is a book",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert mask(text) == text


@given(st.text(max_size=300))
def test_any_text_can_be_masked_and_twice_is_as_once(text: str) -> None:
    once = mask(text)
    assert mask(once) == once


@pytest.mark.parametrize(
    "piece", ["1", "1 ", "a@", "eyJ-", "eyJa.", "+1", "DE12 ", "1.", "sk-", "://a:", "(0", "a-"]
)
def test_no_text_takes_long(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    began = time.process_time()
    mask(text)
    assert time.process_time() - began < 5
