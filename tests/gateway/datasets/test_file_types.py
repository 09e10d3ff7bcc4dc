"""What a file is, by its first bytes and by its name; what is no table of texts (C17)."""

import gzip
import io
import zipfile

import pytest

from shared.errors import InvalidData, UnsupportedMedia
from tests.gateway.datasets.checking import HEADER, Check, assert_says


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(HEADER, mtime=0), zipped(), b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n",
        b"\x7fELF\x02\x01", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\xfd7zXZ\0", b"BZh91AY",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["data.csv", "data.jsonl", "data"])
def test_binary_files_are_named(check: Check, content: bytes, name: str) -> None:
    with pytest.raises(UnsupportedMedia, match=r"This is an? .*, not a CSV or JSONL"):
        check(content, name)


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl", "data.json"])
def test_parquet_under_the_name_of_a_text_is_named(check: Check, name: str) -> None:
    with pytest.raises(UnsupportedMedia, match=r"This is a Parquet file, .* ending \.parquet"):
        check(b"PAR1" + b"\0" * 50, name)


def test_a_text_under_the_name_of_parquet_is_named(check: Check) -> None:
    with pytest.raises(InvalidData, match="not Parquet") as refused:
        check(HEADER + b"a,b\n", "data.parquet")
    assert_says(refused.value, "bad_parquet", None)


def test_names_decide_and_else_the_content(check: Check) -> None:
    line = b'{"prompt":"a","completion":"b"}'
    assert check(line, "data").file_type == "jsonl"
    assert check(b"\xef\xbb\xbf" + line, "data.txt").file_type == "jsonl"
    assert check(line, "data.json").file_type == "jsonl"
    assert check(b"[" + line + b"]", "data").file_type == "json"
    assert check(b"[" + line + b"]", "data.json").file_type == "json"
    assert check(b'{"data": [' + line + b"]}", "data.json").file_type == "json"
    assert check(b'{\n"prompt": [\n' + line + b"]}", "data.json").file_type == "json"
    assert check(HEADER + b"a,b", "data.txt").file_type == "csv"
