"""Receives an uploaded file: streamed to the data disk, counted, never in memory. Knows no HTTP
framework and nothing of what the file holds."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from shared.errors import InvalidRequest, TooLarge, UnsupportedMedia
from shared.storage import sha256_of

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS = 16
MAX_FIELD_BYTES = 64 * 1024
_FLUSH_BYTES = 1024 * 1024


@dataclass
class Upload:
    """The file and the form's other fields. ``path`` is gone when the block ends; it is empty
    where the form names a draft instead of a file."""

    path: Path
    filename: str = ""
    has_file: bool = False
    fields: dict[str, str] = field(default_factory=dict)
    bytes: int = 0


def check_sha256(upload: Upload) -> None:
    """Where the form says what the file's bytes are to be: that they arrived as they left."""
    wanted = upload.fields.get("sha256", "").strip().lower()
    if wanted and wanted != (found := sha256_of(upload.path)):
        raise InvalidRequest(
            f"The file that arrived has the sha256 {found}, not the one in `sha256`. "
            "Nothing was kept: send it again.",
            code="sha256_mismatch",
            param="sha256",
        )


@dataclass
class _Part:
    name: str = ""
    filename: str | None = None
    disposition: bytes = b""
    data: bytearray = field(default_factory=bytearray)


class _Form:
    """Collects the parser's callbacks; file bytes wait in ``pending`` until they are written."""

    def __init__(self, upload: Upload, max_bytes: int) -> None:
        self.upload = upload
        self.max_bytes = max_bytes
        self.pending = bytearray()
        self.ended = False
        self._part = _Part()
        self._header, self._value = bytearray(), bytearray()

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self.part_begin,
            "on_part_data": self.part_data,
            "on_part_end": self.part_end,
            "on_header_field": self.header_field,
            "on_header_value": self.header_value,
            "on_header_end": self.header_end,
            "on_headers_finished": self.headers_finished,
            "on_end": self.end,
        }

    def part_begin(self) -> None:
        self._part = _Part()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._part.disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def headers_finished(self) -> None:
        _, options = parse_options_header(self._part.disposition)
        self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" not in options:
            if len(self.upload.fields) >= MAX_FIELDS:
                raise InvalidRequest(f"The form has more than {MAX_FIELDS} fields.")
            return
        if self.upload.has_file or self._part.name != "file":
            raise InvalidRequest("Send exactly one file, in the field `file`.", param="file")
        self.upload.has_file = True
        self._part.filename = options[b"filename"].decode("utf-8", "replace")
        self.upload.filename = self._part.filename

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.filename is None:
            self._part.data += data[start:end]
            if len(self._part.data) > MAX_FIELD_BYTES:
                raise TooLarge(
                    f"The field {self._part.name[:40]!r} is longer than {MAX_FIELD_BYTES:,} bytes."
                )
            return
        self.upload.bytes += end - start
        if self.upload.bytes > self.max_bytes:
            raise TooLarge(
                f"The file is larger than {self.max_bytes:,} bytes (GENPLAT_MAX_UPLOAD_BYTES).",
                code="file_too_large",
                param="file",
            )
        self.pending += data[start:end]

    def part_end(self) -> None:
        if self._part.filename is None:
            text = self._part.data.decode("utf-8", "replace")
            self.upload.fields[self._part.name] = text

    def end(self) -> None:
        self.ended = True


@asynccontextmanager
async def receive_upload(
    *, content_type: str, stream: AsyncIterator[bytes], folder: Path, max_bytes: int
) -> AsyncIterator[Upload]:
    """The multipart form in ``stream``; its file lies in ``folder`` as long as the block."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedMedia("Send the file as multipart/form-data, in the field `file`.")
    descriptor, name = tempfile.mkstemp(dir=folder, prefix="upload-")
    upload = Upload(Path(name))
    form = _Form(upload, max_bytes)
    try:
        with os.fdopen(descriptor, "wb") as out:
            await _parse(MultipartParser(boundary, form.callbacks()), form, stream, out.write)
        if not form.ended:
            raise InvalidRequest("The upload broke off before its end.", code="incomplete_upload")
        if not upload.has_file and not upload.fields.get("draft"):
            raise InvalidRequest(
                "The form holds no file. Send one in the field `file`.", param="file"
            )
        yield upload
    finally:
        upload.path.unlink(missing_ok=True)


async def _parse(
    parser: MultipartParser,
    form: _Form,
    stream: AsyncIterator[bytes],
    write: Callable[[bytearray], object],
) -> None:
    try:
        async for chunk in stream:
            parser.write(chunk)
            if len(form.pending) >= _FLUSH_BYTES:
                # A slow disk must not hold up every other request.
                await asyncio.to_thread(write, form.pending)
                form.pending.clear()
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequest("The multipart form is malformed.") from error
    await asyncio.to_thread(write, form.pending)
