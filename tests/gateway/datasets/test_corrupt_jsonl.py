"""The corrupt JSON lines that users bring (C26): each is named, with its place."""

from pathlib import Path

import pytest

from shared.datasets import read_records
from shared.errors import InvalidData
from tests.gateway.datasets.checking import Check, assert_says

WRONG_JSONL = {
    "empty": (b"\n\n", "empty_file", None),
    "bad line": (b'{"prompt":"a","completion":"b"}\n{"prompt":\n', "bad_json", 2),
    "C20 many keys": (
        b"{" + b",".join(b'"k%d":1' % n for n in range(300)) + b"}", "too_many_columns", 1,
    ),
    "C20 many keys, later": (
        b'{"prompt":"a","completion":"b"}\n{"prompt":"a","completion":"b",'
        + b",".join(b'"k%d":1' % n for n in range(300)) + b"}", "too_many_columns", 2,
    ),
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


@pytest.mark.parametrize("case", WRONG_JSONL)
def test_wrong_jsonl(check: Check, case: str) -> None:
    content, code, line = WRONG_JSONL[case]
    with pytest.raises(InvalidData) as refused:
        check(content, "data.jsonl")
    assert_says(refused.value, code, line)


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


@pytest.mark.parametrize("lines", [b'[{"prompt":"a"}]', b'[\n{"prompt":"a"},\n' * 20 + b"]"])
def test_an_array_is_told_once_with_the_way_out(check: Check, lines: bytes) -> None:
    with pytest.raises(InvalidData, match="JSON array") as refused:
        check(lines, "x.jsonl")
    assert len(refused.value.details) == 1
    assert "one object a line" in refused.value.message
    assert ".json" in refused.value.message
