"""Tells by its first bytes what a file is, whatever its name says."""

from pathlib import Path

from gateway.datasets.json_rows import holds_rows
from gateway.datasets.problems import Problems
from shared.errors import UnsupportedMedia

# Signature, what people call the file, the way out.
_SIGNATURES = (
    (b"\x1f\x8b", "a gzip archive", "Unpack it first."),
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "Unpack it, or save it as CSV (UTF-8)."),
    (b"PK\x05\x06", "an empty zip archive", "Upload the file itself."),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "Save it as CSV (UTF-8)."),
    (b"ARROW1", "an Arrow file", "Save it as Parquet, CSV or JSONL."),
    (b"%PDF", "a PDF document", "Upload a CSV or JSONL file."),
    (b"\x89PNG", "a PNG image", "Upload a CSV or JSONL file."),
    (b"\xff\xd8\xff", "a JPEG image", "Upload a CSV or JSONL file."),
    (b"\x7fELF", "a program", "Upload a CSV or JSONL file."),
    (b"MZ\x90\x00", "a program", "Upload a CSV or JSONL file."),
    (b"BZh", "a bzip2 archive", "Unpack it first."),
    (b"\xfd7zXZ", "an xz archive", "Unpack it first."),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "Unpack it first."),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it first."),
    (b"SQLite format 3", "a database", "Export the table as CSV."),
)
_HEAD = 4096
PARQUET = b"PAR1"
_PARQUET_NAMES = (".parquet", ".pq")
_TEXTS = (".csv", ".jsonl", ".ndjson", ".json")


def refuse_binary(path: Path, filename: str) -> None:
    """Raise for archives, office files, images and programs (415), and for UTF-16 (422). Parquet
    is no text either: it is read only where the name does not promise a text."""
    head = _head(path)
    if head.startswith(PARQUET):
        if Path(filename).suffix.lower() not in _TEXTS:
            return
        raise UnsupportedMedia(
            "This is a Parquet file, not a CSV or JSONL text file. Give its name the ending "
            ".parquet.",
            param="file",
        )
    if Path(filename).suffix.lower() in _PARQUET_NAMES:
        raise Problems().fail("bad_parquet", "the file is not Parquet, whatever its name says.")
    for signature, kind, way_out in _SIGNATURES:
        if head.startswith(signature):
            raise UnsupportedMedia(
                f"This is {kind}, not a CSV or JSONL text file. {way_out}", param="file"
            )
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _looks_like_utf16(head):
        raise Problems().fail(
            "not_utf8", "the file is UTF-16 text. Save it as UTF-8 and upload it again.", line=1
        )


def _looks_like_utf16(head: bytes) -> bool:
    """Western text in UTF-16 has a zero in every other byte."""
    pairs = len(head) // 2
    return pairs >= 4 and max(head[0::2].count(0), head[1::2].count(0)) > 0.8 * pairs


def file_type(path: Path, filename: str) -> str:
    """``parquet``, ``csv``, ``jsonl`` or ``json``: by the name, else by the first characters."""
    suffix = Path(filename).suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return "jsonl"
    if suffix == ".csv":
        return "csv"
    if _head(path).startswith(PARQUET):
        return "parquet"
    text = _text(path).lstrip()
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{"):
        return "json" if holds_rows(path) else "jsonl"
    return "jsonl" if suffix == ".json" else "csv"


def refuse_array(path: Path) -> None:
    """Raise where JSON lines begin with an array: by lines, its faults would say nothing."""
    text = _text(path)
    if text.lstrip().startswith(b"["):
        raise Problems().fail(
            "not_an_object",
            "the file begins with a JSON array. Give its name the ending .json, or write one "
            "object a line (JSON Lines): remove the brackets and the commas between objects.",
            line=len(text[: text.index(b"[") + 1].splitlines()),
        )


def _text(path: Path) -> bytes:
    """The beginning of a text file, without a byte order mark."""
    return _head(path).removeprefix(b"\xef\xbb\xbf")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)
