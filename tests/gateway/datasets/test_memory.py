"""Files of any length are read in the same memory (C8): measured in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEGABYTE = 1024 * 1024
# What a check adds to the memory of a process that has checked a small file before.
SCRIPT = """
import json, resource, sys
from pathlib import Path
from gateway.datasets.canonical import check_file
from shared.errors import GenPlatError

def check(path):
    try:
        check_file(Path(path), Path(path + ".records"), filename=path)
    except GenPlatError as error:
        return error.code

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

check(sys.argv[1])
before = peak()
code = check(sys.argv[2])
print(json.dumps({"code": code, "added": peak() - before}))
"""


def measured(small: Path, large: Path) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(small), str(large)],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    return found["code"], found["added"]


@pytest.mark.parametrize(
    ("suffix", "begin", "block", "code"),
    [
        ("csv", b'text,target\n"a,b\n', b"a short line, and the next one\n", "unclosed_quote"),
        ("csv", b'text,target\n"a,b\n', b"no line ends here", "unclosed_quote"),
        ("jsonl", b"", b'{"prompt": 1, no line ends here', "line_too_long"),
        ("json", b'[{"prompt": "a"}, {"prompt": "', b"no text ends here", "missing_column"),
        ("json", b'[{"prompt": "a", "completion": "', b"no text ends here", "line_too_long"),
        ("json", b"[", b"[", "bad_json"),
    ],
)
def test_a_large_file_takes_no_more_memory(
    tmp_path: Path, suffix: str, begin: bytes, block: bytes, code: str
) -> None:
    small, large = tmp_path / f"small.{suffix}", tmp_path / f"large.{suffix}"
    small.write_bytes(begin + block * 3)
    with large.open("wb") as file:
        file.write(begin)
        piece = block * (MEGABYTE // len(block))
        for _ in range(200):
            file.write(piece)
    found, added = measured(small, large)
    assert found == code
    assert added < 64 * MEGABYTE
