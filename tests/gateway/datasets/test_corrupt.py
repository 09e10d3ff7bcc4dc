"""The corrupt files that users bring: each is named, with its place, and nothing is stored."""

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.datasets.canonical import Checked, check_file
from shared.datasets import read_records
from shared.errors import GenPlatError, InvalidData, TooLarge, UnsupportedMedia

Check = Callable[..., Checked]
HEADER = b"text,target\n"


@pytest.fixture
def check(tmp_path: Path) -> Check:
    def run(content: bytes, filename: str = "data.csv", **options: Any) -> Checked:
        source = tmp_path / "source"
        source.write_bytes(content)
        return check_file(source, tmp_path / "records.jsonl", filename=filename, **options)

    return run


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    return buffer.getvalue()


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
    "C8 unclosed quote, long": (HEADER + b'"c,d\n' + b"e,f\n" * 100_000, "field_too_long", 2),
    "C8 unclosed quote, long line": (
        HEADER + b'"c,d\n' + b"e" * 2_000_000 + b"\n", "field_too_long", 2,
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
WRONG_JSONL = {
    "empty": (b"\n\n", "empty_file", None),
    "bad line": (b'{"prompt":"a","completion":"b"}\n{"prompt":\n', "bad_json", 2),
    "NaN": (b'{"prompt":NaN,"completion":"b"}', "bad_json", 1),
    "Infinity": (b'{"prompt":"a","completion":"b","x":-Infinity}', "bad_json", 1),
    "too large a number": (b'{"prompt":"a","completion":"b","x":1e400}', "bad_json", 1),
    "too many digits": (b'{"prompt":"a","completion":"b","x":' + b"9" * 5000 + b"}", "bad_json", 1),
    "deep": (b'{"prompt":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "bad_json", 1),
    "key twice": (b'{"prompt":"a","prompt":"b","completion":"c"}', "duplicate_key", 1),
    "C26 array": (b'[{"prompt":"a","completion":"b"}]', "not_an_object", 1),
    "C26 array over lines": (
        b'[\n  {\n    "prompt": "a",\n    "completion": "b"\n  }\n]\n', "not_an_object", 1,
    ),
    "C26 array on one long line": (
        b"[" + b'{"prompt":"a","completion":"b"},' * 50_000 + b"{}]", "not_an_object", 1,
    ),
    "C26 array after blank lines": (b"\xef\xbb\xbf\r\n\n \t[{", "not_an_object", 3),
    "C26 array a line": (b'["a","b"]\n["c","d"]\n', "not_an_object", 1),
    "array in a later line": (
        b'{"prompt":"a","completion":"b"}\n["c","d"]\n', "not_an_object", 2,
    ),
    "text alone": (b'"a"', "not_an_object", 1),
    "two objects a line": (b'{"prompt":"a","completion":"b"} {"prompt":"a"}', "bad_json", 1),
    "other keys": (b'{"a":"b"}', "missing_column", 1),
    "key missing later": (
        b'{"prompt":"a","completion":"b"}\n\n{"prompt":"a"}', "missing_field", 3,
    ),
    "number": (b'{"prompt":1,"completion":"b"}', "not_text", 1),
    "null": (b'{"prompt":null,"completion":"b"}', "not_text", 1),
    "blank": (b'{"prompt":" ","completion":"b"}', "blank_cell", 1),
    "half a surrogate": (b'{"prompt":"\\ud800","completion":"b"}', "not_utf8", 1),
    "half a surrogate as key": (
        b'{"prompt":"a","completion":"b","\\ud800":1}', "not_utf8", 1,
    ),
    "half a surrogate in a key below": (
        b'{"prompt":"a","completion":"b","x":[{"y":{"\\uDFFFz":[]}}]}', "not_utf8", 1,
    ),
    "half a surrogate in a value not used, later": (
        b'{"prompt":"a","completion":"b"}\n\n'
        b'{"prompt":"a","completion":"b","x":{"y":[1,["\\uD83D\\u0041"]]}}',
        "not_utf8", 3,
    ),
    "half a surrogate, deep": (
        b'{"prompt":"a","completion":"b","x":' + b"[" * 800 + b'"\\udc00"' + b"]" * 800 + b"}",
        "not_utf8", 1,
    ),
    "half a surrogate in messages": (
        b'{"messages":[{"role":"user","content":"a"},'
        b'{"role":"assistant","content":[{"type":"text","text":"\\ud83d"},'
        b'{"type":"text","text":"\\ude00"}]}]}',
        "not_utf8", 1,
    ),
    "escaped NUL": (b'{"prompt":"a\\u0000","completion":"b"}', "nul_byte", 1),
    "long line": (b'{"prompt":"' + b"x" * 2_000_000 + b'"}', "line_too_long", 1),
    "long text": (
        b'{"prompt":"' + b"x" * 200_000 + b'","completion":"b"}', "field_too_long", 1,
    ),
    "messages are no list": (b'{"messages":"hello"}', "bad_messages", 1),
    "one message": (b'{"messages":[{"role":"user","content":"a"}]}', "bad_messages", 1),
    "unknown role": (
        b'{"messages":[{"role":"user","content":"a"},{"role":"tool","content":"b"}]}',
        "bad_messages", 1,
    ),
    "role is a list": (
        b'{"messages":[{"role":["user"],"content":"a"},{"role":"assistant","content":"b"}]}',
        "bad_messages", 1,
    ),
    "user last": (
        b'{"messages":[{"role":"assistant","content":"a"},{"role":"user","content":"b"}]}',
        "bad_messages", 1,
    ),
    "nothing learned": (
        b'{"messages":[{"role":"user","content":"a"},'
        b'{"role":"assistant","content":"b","weight":0}]}',
        "bad_messages", 1,
    ),
    "odd weight": (
        b'{"messages":[{"role":"user","content":"a"},'
        b'{"role":"assistant","content":"b","weight":0.5}]}',
        "bad_messages", 1,
    ),
    "user's weight": (
        b'{"messages":[{"role":"user","content":"a","weight":1},'
        b'{"role":"assistant","content":"b"}]}',
        "bad_messages", 1,
    ),
    "an image": (
        b'{"messages":[{"role":"user","content":[{"type":"image_url"}]},'
        b'{"role":"assistant","content":"b"}]}',
        "not_text", 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_CSV)
def test_wrong_csv(check: Check, case: str) -> None:
    content, code, line = WRONG_CSV[case]
    with pytest.raises(InvalidData) as refused:
        check(content)
    assert_says(refused.value, code, line)


@pytest.mark.parametrize("case", WRONG_JSONL)
def test_wrong_jsonl(check: Check, case: str) -> None:
    content, code, line = WRONG_JSONL[case]
    with pytest.raises(InvalidData) as refused:
        check(content, "data.jsonl")
    assert_says(refused.value, code, line)


def assert_says(error: GenPlatError, code: str, line: int | None) -> None:
    assert (error.status, error.code, error.param) == (422, code, "file")
    assert error.details[0]["line"] == line
    assert set(error.details[0]) == {"line", "column", "message"}
    assert error.details[0]["message"].endswith(".")
    assert len(error.message) < 500


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(HEADER), zipped(), b"PAR1" + b"\0" * 50, b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n",
        b"\x7fELF\x02\x01", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\xfd7zXZ\0", b"BZh91AY",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["data.csv", "data.jsonl", "data"])
def test_binary_files_are_named(check: Check, content: bytes, name: str) -> None:
    with pytest.raises(UnsupportedMedia, match=r"This is an? .*, not a CSV or JSONL"):
        check(content, name)


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
        (b"\xef\xbb\xbftext,target\na,b\n", [("a", "b")]),
        (b"text,target\ra,b\rc,d", [("a", "b"), ("c", "d")]),
        (b"text,target\r\na,b\nc,d\re,f", [("a", "b"), ("c", "d"), ("e", "f")]),
        (b'text,target\n"a\nb","c\r\nd"\n"e\rf",g', [("a\nb", "c\r\nd"), ("e\rf", "g")]),
        (b"text,target\n\na,b\n\n\nc,d\n\n", [("a", "b"), ("c", "d")]),
        (b"text,target,\na,b,\n", [("a", "b")]),
        (b"target,id,text\na,1,b\n", [("b", "a")]),
        (b'text,target\n"a ""b""",c\n', [('a "b"', "c")]),
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
    ("written", "meant"),
    [
        ("\\ud83d\\ude00", "😀"), ("\\uD83D\\uDE00", "😀"), ("\\ud7ff", "\ud7ff"),
        ("\\\\ud800", "\\ud800"), ("😀\\\\udfff", "😀\\udfff"),
    ],
)  # fmt: skip
def test_escapes_that_are_right(check: Check, tmp_path: Path, written: str, meant: str) -> None:
    line = f'{{"prompt":"{written}","completion":"b","{written}":["{written}"]}}'
    assert check(line.encode(), "x.jsonl").columns == ["prompt", "completion", meant]
    assert next(read_records(tmp_path / "records.jsonl")).prompt[0].content == meant


def test_half_a_surrogate_is_told_by_its_key(check: Check) -> None:
    with pytest.raises(InvalidData) as refused:
        check(b'{"prompt":"a","completion":"b","x":[{"\\ud800":1}],"y":"\\ud800"}', "x.jsonl")
    (found,) = refused.value.details
    assert found["column"] == "x"
    assert "the key 'x' holds half of a surrogate pair" in found["message"]
    assert refused.value.message.encode()


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x"])
@pytest.mark.parametrize("lines", [b'[{"prompt":"a"}]', b'[\n{"prompt":"a"},\n' * 20 + b"]"])
def test_an_array_is_told_once_with_the_way_out(check: Check, name: str, lines: bytes) -> None:
    with pytest.raises(InvalidData, match="JSON array") as refused:
        check(lines, name)
    assert len(refused.value.details) == 1
    assert "one object a line" in refused.value.message


def test_a_quote_open_for_too_long_has_two_possible_causes(check: Check) -> None:
    for rows in (b'"' + b"short lines\n" * 20_000 + b'",c\n', b'"c,d\n' + b"e,f\n" * 50_000):
        with pytest.raises(InvalidData) as refused:
            check(HEADER + rows)
        assert "longer than 131,072 characters" in refused.value.message
        assert "closing double quote is missing" in refused.value.message
    # On a single line nothing is left open.
    with pytest.raises(InvalidData) as refused:
        check(HEADER + b'"' + b"x" * 200_000 + b'",c\n')
    assert "closing" not in refused.value.message


def test_a_wrong_message_is_told_once(check: Check) -> None:
    for last, said in (
        ('{"role":"assistant","content":" "}', "messages[1].content is blank."),
        ('{"role":"tool","content":"b"}', "messages[1] must have the role"),
        ('{"role":"assistant","content":"b","weight":2}', "messages[1] has a weight"),
    ):
        line = f'{{"messages":[{{"role":"user","content":"a"}},{last}]}}'
        with pytest.raises(InvalidData) as refused:
            check(line.encode(), "x.jsonl")
        (found,) = refused.value.details
        assert found["message"].startswith(said)


def test_messages(check: Check, tmp_path: Path) -> None:
    checked = check(
        b'{"messages":[{"role":"system","content":"s"},{"role":"user","content":'
        b'[{"type":"text","text":"a"},{"type":"text","text":"b"}]},'
        b'{"role":"assistant","content":"no","weight":0},{"role":"user","content":"c"},'
        b'{"role":"assistant","content":"yes","weight":1}]}',
        "x.jsonl",
    )
    assert (checked.format, checked.file_type) == ("messages", "jsonl")
    (record,) = read_records(tmp_path / "records.jsonl")
    assert [message.content for message in record.messages] == ["s", "ab", "no", "c", "yes"]
    assert [message.learned for message in record.messages] == [False, False, False, False, True]


def test_named_columns(check: Check, tmp_path: Path) -> None:
    checked = check(b"q,a,n\nx,y,1\n", text_column="q", target_column="a")
    assert checked.format == "text/target"
    assert next(read_records(tmp_path / "records.jsonl")).completion == "y"
    for columns in ({"text_column": "q"}, {"target_column": "a"}):
        with pytest.raises(GenPlatError, match="go together"):
            check(b"q,a\nx,y\n", **columns)
    with pytest.raises(GenPlatError, match="must differ"):
        check(b"q,a\nx,y\n", text_column="q", target_column="q")
    with pytest.raises(InvalidData, match="no column 'z'") as refused:
        check(b"q,a\nx,y\n", text_column="q", target_column="z")
    assert refused.value.code == "missing_column"


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
    assert check(HEADER + b"a,b\n" * 100, max_rows=100).rows == 100
    with pytest.raises(TooLarge) as refused:
        check(HEADER + b"a,b\n" * 101, max_rows=100)
    assert refused.value.code == "too_many_rows"


def test_names_decide_and_else_the_content(check: Check) -> None:
    line = b'{"prompt":"a","completion":"b"}'
    assert check(line, "data").file_type == "jsonl"
    assert check(b"\xef\xbb\xbf" + line, "data.txt").file_type == "jsonl"
    assert check(line, "data.json").file_type == "jsonl"
    assert check(HEADER + b"a,b", "data.txt").file_type == "csv"


def test_control_characters_of_a_file_do_not_reach_messages(check: Check) -> None:
    with pytest.raises(InvalidData) as refused:
        check(b"\x1b[31m<b>,\xe2\x80\xaex\na,b\n")
    assert refused.value.message.isprintable()
