"""What comes out is what went in, for any text; what is broken is refused and never a surprise."""

import csv
import io
import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.datasets.canonical import check_file
from shared.datasets import read_records
from shared.errors import GenPlatError, InvalidData

# Surrogates are no text, NUL is refused, and a cell of white space alone counts as blank.
words = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40
).filter(str.strip)
pairs = st.lists(st.tuples(words, words), min_size=1, max_size=20)
line_ends = st.sampled_from(["\n", "\r\n"])


def parsed(content: bytes, filename: str) -> list[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        source, records = Path(folder) / "source", Path(folder) / "records"
        source.write_bytes(content)
        check_file(source, records, filename=filename)
        return [(found.prompt[0].content, found.completion) for found in read_records(records)]


@given(pairs=pairs, line_end=line_ends, mark=st.booleans(), quoting=st.sampled_from([0, 1]))
@settings(max_examples=150, deadline=None)
def test_csv_comes_back(
    pairs: list[tuple[str, str]], line_end: str, mark: bool, quoting: int
) -> None:
    out = io.StringIO(newline="")
    # Python's writer leaves a lone carriage return unquoted unless it ends its own lines.
    writer = csv.writer(out, lineterminator=line_end, quoting=1 if line_end == "\n" else quoting)  # type: ignore[arg-type]
    writer.writerows([("text", "target"), *pairs])
    content = out.getvalue().encode("utf-8-sig" if mark else "utf-8")
    assert parsed(content, "a.csv") == pairs


@given(pairs=pairs, line_end=line_ends, ascii=st.booleans())
@settings(max_examples=150, deadline=None)
def test_jsonl_comes_back(pairs: list[tuple[str, str]], line_end: str, ascii: bool) -> None:
    lines = [
        json.dumps({"prompt": prompt, "completion": completion}, ensure_ascii=ascii)
        for prompt, completion in pairs
    ]
    assert parsed(line_end.join(lines).encode(), "a.jsonl") == pairs


# What looks like an escape and is none, whole pairs, and halves of them.
odd_texts = st.text(st.sampled_from('a\\ud80"😀\ud800'), max_size=8)
odd_values = st.recursive(
    st.one_of(st.none(), st.integers(), odd_texts),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(odd_texts, inner)),
    max_leaves=8,
)


@given(rest=st.dictionaries(odd_texts, odd_values, max_size=4), ascii=st.booleans())
@settings(max_examples=300, deadline=None)
def test_jsonl_is_taken_where_all_of_it_can_be_written(
    rest: dict[str, object], ascii: bool
) -> None:
    row = {"prompt": "a", "completion": "b", **rest}
    whole = encodable(json.dumps(row, ensure_ascii=False))
    line = json.dumps(row, ensure_ascii=ascii or not whole).encode()
    try:
        assert parsed(line, "a.jsonl") == [("a", "b")]
        assert whole
    except InvalidData as error:
        assert (error.code, whole) == ("not_utf8", False)
        assert encodable(json.dumps(error.body(), ensure_ascii=False))


def encodable(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


PIECES = [
    b"text,target", b"\n", b"\r", b'"', b",", b"\xff", b"\xef\xbb\xbf", b"\0", b"a", b" ", b";",
    b'{"prompt":', b'"completion":', b"}", b"[", b"\\u0000", b"NaN", b"1e400", b"\xe2\x80\xa8",
    b'{"prompt":"a","completion":"b"}', b"x" * 5000, b"]", b"{\"data\":[",
]  # fmt: skip
soup = st.one_of(
    st.binary(max_size=200), st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)
)


@given(content=soup, name=st.sampled_from(["a.csv", "a.jsonl", "a.json", "a"]))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_read_or_refused_by_name(content: bytes, name: str) -> None:
    try:
        assert parsed(content, name)
    except GenPlatError as error:
        assert error.status in (413, 415, 422)
        assert error.message
