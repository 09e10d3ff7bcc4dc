"""What has a form is masked, what only looks a little like it stays."""

import time

import pytest
from hypothesis import example, given
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
        ("From o'brien@mail.example, 'jane%x@a.example'", "From [email], '[email]'"),
        ("имя@почта.рф 用户@例子.广告", "[email] [email]"),
        ("redis://:secret@host:6379/0", "redis://[password]@host:6379/0"),
        ("https://me:p@ss@host/x", "https://[password]@host/x"),
        ("It is 10.0.0.1. Or 10.0.0.2, or (10.0.0.3).", "It is [ip]. Or [ip], or ([ip])."),
        ("fe80::1ff:fe23:4567:890a, 2001:db8::1.", "[ip], [ip]."),
        ("[2001:db8:0:0:0:0:0:1]:443 ::ffff:192.0.2.1", "[[ip]]:443 [ip]"),
        ("BE68 5390 0754 7034 OK", "[iban] OK"),
        ("be68539007547034 DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000", "[iban] [iban]"),
        ("4111 1111 1111 1111 123", "[card] 123"),
        ("no. 1234 4111 1111 1111 1111 12/27", "no. 1234 [card] 12/27"),
        ('{"n":4111111111111111,"c":[378282246310005]}', '{"n":[card],"c":[[card]]}'),
        ("3782 822463 10005 4111.1111.1111.1111", "[card] [card]"),
        ("４１１１ １１１１ １１１１ １１１１", "[card]"),
        ("+49(0)30/1234567, +81-3-1234-5678, 1-800-555-1234", "[phone], [phone], [phone]"),
        ("0171/2345678, 020 7946 0958, 06 12 34 56 78.", "[phone], [phone], [phone]."),
        ("sk-" + "a1" * 300, "[key]"),
        ("github_pat_11ABCDEFG0123456789_abcdefghijklm", "[key]"),
        ("Authorization: Bearer abc.def-ghi_jklmnop1234567==", "Authorization: Bearer [key]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb", "[key]\nb"),
        ("-----BEGIN PRIVATE KEY-----\nMII, cut o", "[key]"),
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
        "01.02.2024 10:30, 2024-01-02 03:04:05",
        "std::vector a::b x[1::2] 12:30:45 ::",
        "pk_user_accounts_table",
        "user@localhost",
        "BE68 5390 0754 7035, BE68 5390 0754 7034X",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert mask(text) == text


@given(st.text(max_size=300))
def test_any_text_can_be_masked_and_twice_is_as_once(text: str) -> None:
    once = mask(text)
    assert mask(once) == once


def with_check_digit(digits: str) -> str:
    doubled = [int(sign) * 2 - 9 * (int(sign) > 4) for sign in digits[::-2]]
    total = sum(doubled) + sum(int(sign) for sign in digits[-2::-2])
    return digits + str(-total % 10)


@given(
    st.text(max_size=40),
    st.from_regex(
        r"[a-z0-9][a-z0-9.+'_-]{0,30}@[a-z0-9-]{1,20}(\.[a-z]{2,8}){1,2}", fullmatch=True
    ),
    st.from_regex(r"[0-9]{15}", fullmatch=True).map(with_check_digit),
    st.sampled_from(["", " ", "-", ".", "\u00a0"]),
    st.text(max_size=40),
)
@example("", "0''@0.aa", "0000000000000000", "", "")
def test_whatever_stands_around_them_they_are_found(
    before: str, address: str, card: str, gap: str, after: str
) -> None:
    printed = gap.join(card[place : place + 4] for place in range(0, 16, 4))
    kept = mask(f"{before}\n{address}\t{printed}\n{after}")
    assert address.partition("@")[2] not in kept.partition("\t")[0].rpartition("\n")[2]
    assert printed not in kept


@pytest.mark.parametrize(
    "piece",
    ["1", "1 ", "a", "a@", "a'", "eyJ-", "eyJa.", "+1", "DE12 ", "1.", "sk-", "://a:", "(0", "a-",
     "f:", "::", "12-", "0 ", "-----BEGIN PRIVATE KEY-----"],
)  # fmt: skip
def test_no_text_takes_long(piece: str) -> None:
    """Twice the text takes about twice the time, with an @ somewhere too."""
    for tail in ("", "@a.b"):
        times = []
        for size in (50_000, 200_000):
            text = piece * (size // len(piece)) + tail
            began = time.process_time()
            mask(text)
            times.append(time.process_time() - began)
        assert times[1] < 0.1 + 10 * times[0]
        assert times[1] < 3
