"""The corrupt CSV files that users bring: each is named, with its place, and nothing is stored."""

from pathlib import Path

import pytest

from shared.datasets import read_records
from shared.errors import InvalidData, TooLarge
from tests.gateway.datasets.checking import HEADER, Check, assert_says

WRONG_CSV = {
    "C1 empty": (b"", "empty_file", None),
    "C1 byte order mark alone": (b"\xef\xbb\xbf", "empty_file", None),
    "C1 blank lines alone": (b"\n\r\n \n", "empty_file", None),
    "C2 header alone": (HEADER, "no_rows", 1),
    "C4 UTF-16": ("text,target\na,b\n".encode("utf-16"), "not_utf8", 1),
    "C4 UTF-16 without mark": ("text,target\na,b\n".encode("utf-16-le"), "not_utf8", 1),
    "C5 Latin-1": (HEADER + b"a,b\ncaf\xe9,c\n", "not_utf8", 3),
    "C6 NUL": (HEADER + b"a,b\na\0b,c\n", "nul_byte", 3),
    "C7 surrogate": (HEADER + b"\xed\xa0\x80,b\n", "not_utf8", 2),
    "C7 overlong": (HEADER + b"\xc0\xaf,b\n", "not_utf8", 2),
    "C7 cut off": (HEADER + b"a,b\xe2\x82", "not_utf8", 2),
    "C8 unclosed quote": (HEADER + b'a,b\n"c,d\n' + b"e,f\n" * 100, "unclosed_quote", 3),
    "C8 unclosed quote, long": (HEADER + b'"c,d\n' + b"e,f\n" * 100_000, "unclosed_quote", 2),
    "C8 unclosed quote, long line": (
        HEADER + b'"c,d\n' + b"e" * 2_000_000 + b"\n", "unclosed_quote", 2,
    ),
    "C8 unclosed quote after a cell over lines": (
        HEADER + b'a,b\n"c\nd","e\n' + b"f,g\n" * 50_000, "unclosed_quote", 4,
    ),
    "C8 unclosed quote up to the next one": (
        HEADER + b'"c,d\n' + b"e,f\n" * 50_000 + b'"g",h\n', "unclosed_quote", 2,
    ),
    "C9 long field": (HEADER + b"a," + b"x" * 200_000 + b"\n", "field_too_long", 2),
    "C9 long field, many lines": (
        HEADER + b'a,b\na,"' + b"every line is short\n" * 10_000 + b'"\n', "field_too_long", 3,
    ),
    "C9 huge field": (HEADER + b"a," + b"x" * 20_000_000 + b"\n", "field_too_long", 2),
    "C10 too few cells": (HEADER + b"a,b\nc\n", "column_count", 3),
    "C10 too many cells": (HEADER + b"a,b,c\n", "column_count", 2),
    "C11 column twice": (b"text,target,text\na,b,c\n", "duplicate_column", 1),
    "C12 case": (b"Text,Target\na,b\n", "missing_column", 1),
    "C12 spaces": (b"text, target\na,b\n", "missing_column", 1),
    "C12 other names": (b"q,a\na,b\n", "missing_column", 1),
    "C13 semicolons": (b"text;target\na;b\n", "missing_column", 1),
    "C13 tabs": (b"text\ttarget\na\tb\n", "missing_column", 1),
    "C16 blank text": (HEADER + b"a,b\n ,b\n", "blank_cell", 3),
    "C16 blank target": (HEADER + b'a,"\t \n"\n', "blank_cell", 2),
    "C20 many columns": (b",".join(b"c%d" % i for i in range(10_000)), "too_many_columns", 1),
    "text after a quote": (HEADER + b'"a"b,c\n', "bad_quote", 2),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_CSV)
def test_wrong_csv(check: Check, case: str) -> None:
    content, code, line = WRONG_CSV[case]
    with pytest.raises(InvalidData) as refused:
        check(content)
    assert_says(refused.value, code, line)


@pytest.mark.parametrize("offset", [0, 1, 65_534, 65_535, 65_536, 70_000, 131_072])
def test_the_place_of_a_bad_byte_is_exact_across_blocks(check: Check, offset: int) -> None:
    before = (b"a,\xc3\xa9\r\n" * 50_000)[:offset]
    lines = before.count(b"\r\n") + before.endswith(b"\r")
    with pytest.raises(InvalidData) as refused:
        check(HEADER + before + b"\xff")
    # A character cut in half by the slice is the first bad byte itself.
    bad = len(HEADER) + len(before) - before.endswith(b"\xc3")
    assert f"byte {bad} " in refused.value.message
    assert refused.value.details[0]["line"] == lines + 2


def test_all_faults_up_to_twenty_are_listed(check: Check) -> None:
    with pytest.raises(InvalidData) as refused:
        check(HEADER + b"a,b\nc\n" * 3)
    assert [detail["line"] for detail in refused.value.details] == [3, 5, 7]
    with pytest.raises(InvalidData) as refused:
        check(HEADER + b"c\n" * 1000)
    assert len(refused.value.details) == 20


@pytest.mark.parametrize(
    ("content", "pairs"),
    [
        # C3
        (b"\xef\xbb\xbftext,target\na,b\n", [("a", "b")]),
        # C14
        (b"text,target\ra,b\rc,d", [("a", "b"), ("c", "d")]),
        (b"text,target\r\na,b\nc,d\re,f", [("a", "b"), ("c", "d"), ("e", "f")]),
        (b'text,target\n"a\nb","c\r\nd"\n"e\rf",g', [("a\nb", "c\r\nd"), ("e\rf", "g")]),
        # C15
        (b"text,target\n\na,b\n\n\nc,d\n\n", [("a", "b"), ("c", "d")]),
        (b"text,target,\na,b,\n", [("a", "b")]),
        (b"target,id,text\na,1,b\n", [("b", "a")]),
        (b'text,target\n"a ""b""",c\n', [('a "b"', "c")]),
        # C21 to C23: kept as the texts that they are.
        (b"text,target\n=cmd|x,+1\n@x,-2\n", [("=cmd|x", "+1"), ("@x", "-2")]),
        (b"text,target\n</s><|im_end|>,{{7*7}}\n", [("</s><|im_end|>", "{{7*7}}")]),
        (
            "text,target\n\u2028a\x85,\u202eb\x1b[31m\n".encode(),
            [("\u2028a\x85", "\u202eb\x1b[31m")],
        ),
        (b"prompt,response\na,b", [("a", "b")]),
        (b"prompt,completion\na,b", [("a", "b")]),
    ],
)
def test_odd_csv_that_is_right(
    check: Check, tmp_path: Path, content: bytes, pairs: list[tuple[str, str]]
) -> None:
    assert check(content).rows == len(pairs)
    records = list(read_records(tmp_path / "records.jsonl"))
    assert [(record.prompt[0].content, record.completion) for record in records] == pairs


@pytest.mark.parametrize(
    ("rows", "code", "said"),
    [
        # Closed, only too long; with a comma, an end of line or an escaped quote behind.
        (b'"' + b"short lines\n" * 20_000 + b'",c\n', "field_too_long", "closing double quote"),
        (b'c,"' + b"short lines\n" * 20_000 + b'"\n', "field_too_long", "closing double quote"),
        (b'c,"' + b'a ""word""\n' * 20_000 + b'"', "field_too_long", "closing double quote"),
        # On a single line nothing is left open.
        (b'"' + b"x" * 200_000 + b'",c\n', "field_too_long", "longer than 131,072"),
        (b"a," + b"x" * 200_000 + b"\n", "field_too_long", "a cell is longer"),
        (b'"c,d\n' + b"e,f\n" * 50_000, "unclosed_quote", "quote is missing"),
        (b'"c,d\n' + b'e ""f"",g\n' * 50_000, "unclosed_quote", "quote is missing"),
    ],
)  # fmt: skip
def test_a_quote_that_is_long_open_was_closed_or_not(
    check: Check, rows: bytes, code: str, said: str
) -> None:
    with pytest.raises(InvalidData, match=said) as refused:
        check(HEADER + rows)
    assert_says(refused.value, code, 2)


def test_warnings(check: Check) -> None:
    rows = b"a,b\n" * 3 + b"c,N/A\n" + b"d," + b"x" * 9000 + b"\n"
    said = " ".join(check(b"text,target\n" + rows).warnings)
    for part in (
        "only 5 rows",
        "2 rows are seen before",
        "1 row is answered by",
        "1 row is longer",
    ):
        assert part in said
    good = b"".join(b"%d,answer %d\n" % (number, number) for number in range(20))
    assert check(b"text,target\n" + good).warnings == []
    assert check(b"id,text,target\n" + b"1," + b"\n1,".join(good.splitlines())).warnings == [
        "These columns are not used: id."
    ]


def test_hints(check: Check) -> None:
    for content, hint in (
        (b"text;target\n", "semicolons"),
        (b"text\ttarget\n", "tabs"),
        (b"Text,Target\n", "rename 'Text', 'Target'"),
        (b"q,a\n", "text_column"),
    ):
        with pytest.raises(InvalidData, match=hint):
            check(content)


def test_too_many_rows(check: Check) -> None:
    """C19; how many rows are long is a warning."""
    assert check(HEADER + b"a,b\n" * 100, max_rows=100).rows == 100
    with pytest.raises(TooLarge) as refused:
        check(HEADER + b"a,b\n" * 101, max_rows=100)
    assert refused.value.code == "too_many_rows"


def test_control_characters_of_a_file_do_not_reach_messages(check: Check) -> None:
    with pytest.raises(InvalidData) as refused:
        check(b"\x1b[31m<b>,\xe2\x80\xaex\na,b\n")
    assert refused.value.message.isprintable()
