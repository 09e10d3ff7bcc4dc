"""Fixtures of the tests of datasets."""

from pathlib import Path
from typing import Any

import pytest

from gateway.datasets.canonical import Checked, check_file
from gateway.datasets.formats import Columns
from shared.datasets import Record, read_records
from tests.gateway.datasets.checking import COLUMNS, Check


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Checks the bytes of a file, as an upload does."""

    def run(content: bytes, filename: str = "data.csv", **options: Any) -> Checked:
        source = tmp_path / "source"
        source.write_bytes(content)
        named = Columns(**{name: options.pop(name) for name in COLUMNS if name in options})
        return check_file(
            source, tmp_path / "records.jsonl", filename=filename, named=named, **options
        )

    return run


@pytest.fixture
def turns(tmp_path: Path, check: Check) -> Any:
    """Checks a file; the records as lists of (role, text, learned)."""

    def run(content: bytes, filename: str, **options: Any) -> list[list[tuple[str, str, bool]]]:
        check(content, filename, **options)
        return [_turns(record) for record in read_records(tmp_path / "records.jsonl")]

    return run


def _turns(record: Record) -> list[tuple[str, str, bool]]:
    return [(turn.role, turn.content, turn.learned) for turn in record.messages]
