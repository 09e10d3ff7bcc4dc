"""The lines of a text file, one at a time and in bounded memory; knows nothing of rows."""

import codecs
from collections.abc import Generator
from pathlib import Path
from typing import TextIO

from gateway.datasets.problems import Problems
from shared.errors import InvalidData

# Characters. Longer lines are not data but a missing quote or a wrong file.
MAX_LINE = 1024 * 1024
_BLOCK = 64 * 1024


def read_lines(path: Path, problems: Problems) -> Generator[str, None, None]:
    """Lines with their own ends (``\\n``, ``\\r\\n`` or ``\\r``), without a byte order mark.

    Of a line over `MAX_LINE` comes the beginning, one character longer than that. Whoever may
    stop half-way closes the generator, and the file with it.
    """
    number = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if "\0" in line:
                    raise problems.fail(
                        "nul_byte",
                        "there is a NUL byte: the file is damaged, or not text.",
                        line=number,
                        column=line.index("\0") + 1,
                    )
                if len(line) > MAX_LINE:
                    _skip_rest(file, line)
                yield line
        except UnicodeDecodeError as error:
            raise locate_bad_byte(path, problems) from error


def _skip_rest(file: TextIO, begun: str) -> None:
    """Read on to the end of a line, or of the file."""
    while begun and not begun.endswith(("\n", "\r")):
        begun = file.readline(MAX_LINE)


def locate_bad_byte(path: Path, problems: Problems) -> InvalidData:
    """Find the first byte that is not UTF-8: its line, its place there, its offset."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, start_of_line, offset, last = 1, 0, 0, b""
    with path.open("rb") as file:
        while True:
            block = file.read(_BLOCK)
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=not block)
                good, bad = block, None
            except UnicodeDecodeError as error:
                # Positions count from the bytes that the decoder still held.
                bad = offset - held + error.start
                good = block[: max(0, bad - offset)]
            line += _count_line_ends(good, last)
            if end := max(good.rfind(b"\n"), good.rfind(b"\r")) + 1:
                start_of_line = offset + end
            if bad is not None or not block:
                break
            offset += len(block)
            last = block[-1:]
    found = offset if bad is None else bad
    return problems.fail(
        "not_utf8",
        f"byte {found} of the file is not UTF-8. Save the file as UTF-8 (it may be Latin-1 "
        "or Windows-1252) and upload it again.",
        line=line,
        column=found - start_of_line + 1,
    )


def _count_line_ends(block: bytes, last: bytes) -> int:
    """Line ends in ``block``; ``last`` is the byte before it, which may be half of a line end."""
    ends = block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")
    return ends - (last == b"\r" and block.startswith(b"\n"))
