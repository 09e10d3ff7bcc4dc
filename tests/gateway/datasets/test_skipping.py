"""Rows that are wrong, left out on request: counted, listed, never silently."""

from pathlib import Path

import pytest

from shared.datasets import read_records
from shared.errors import InvalidData
from tests.gateway.datasets.checking import HEADER, Check


def kept(tmp_path: Path) -> list[str]:
    return [record.completion for record in read_records(tmp_path / "records.jsonl")]


def test_csv(check: Check, tmp_path: Path) -> None:
    content = HEADER + b"a,b\n,c\nd\ne,f,g\n\nh, \ni,j\n"
    with pytest.raises(InvalidData):
        check(content)
    checked = check(content, skip_bad_rows=True)
    assert (checked.rows, checked.skipped_rows) == (2, 4)
    assert [place["line"] for place in checked.problems] == [3, 4, 5, 7]
    assert kept(tmp_path) == ["b", "j"]


def test_jsonl(check: Check, tmp_path: Path) -> None:
    row = b'{"prompt":"a","completion":"b"}\n'
    content = row + b'{"prompt":\n' + b"7\n" + b"x" * 2_000_000 + b"\n" + b'{"prompt":NaN}\n' + row
    checked = check(content, "x.jsonl", skip_bad_rows=True)
    assert (checked.rows, checked.skipped_rows) == (2, 4)
    assert [place["line"] for place in checked.problems] == [2, 3, 4, 5]


def test_json(check: Check) -> None:
    row = b'{"prompt":"a","completion":"b"}'
    content = b'[%b, 7, {"prompt":NaN}, {"a":1,"a":2}, %b]' % (row, row)
    checked = check(content, "x.json", skip_bad_rows=True)
    assert (checked.rows, checked.skipped_rows) == (2, 3)
    assert [place["row"] for place in checked.problems] == [2, 3, 4]


def test_several_faults_of_a_row_count_once(check: Check) -> None:
    checked = check(HEADER + b"a,b\n , \n", skip_bad_rows=True)
    assert (checked.skipped_rows, len(checked.problems)) == (1, 2)


def test_a_hundred_places_are_listed_and_all_are_counted(check: Check) -> None:
    checked = check(HEADER + b"a,b\n" + b"a,\n" * 500, skip_bad_rows=True)
    assert (checked.rows, checked.skipped_rows, len(checked.problems)) == (1, 500, 100)


def test_a_file_without_a_good_row_is_refused(check: Check) -> None:
    with pytest.raises(InvalidData) as refused:
        check(HEADER + b"a,\n" * 500, skip_bad_rows=True)
    assert refused.value.code == "blank_cell"
    assert len(refused.value.details) == 20


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (HEADER + b",b\na,b\n\xff,c\n", "not_utf8", 4),
        (HEADER + b',b\na,b\n"c,d\n', "unclosed_quote", 4),
        (HEADER + b",b\na,b\nc\0,d\n", "nul_byte", 4),
        (b"q,a\nb,c\n", "missing_column", 1),
        (HEADER, "no_rows", 1),
    ],
)
def test_what_is_wrong_with_the_whole_file_still_refuses_it(
    check: Check, content: bytes, code: str, line: int
) -> None:
    with pytest.raises(InvalidData) as refused:
        check(content, skip_bad_rows=True)
    assert (refused.value.code, refused.value.details[0]["line"]) == (code, line)
    assert len(refused.value.details) == 1
