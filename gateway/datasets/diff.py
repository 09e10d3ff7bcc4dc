"""Counts what changed from one dataset to another: rows added, removed, answered otherwise."""

import hashlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gateway.tables import Dataset
from shared.errors import NotFound
from shared.storage import Storage

# Rows are matched by source first: a row that is gone and one that came, with the same source, are
# one row whose answer changed. Equal rows count as often as they are there.
_COUNTS = """
WITH
  per_row AS (
    SELECT source, SUM(side = 0) AS before, SUM(side = 1) AS after
    FROM found GROUP BY source, record
  ),
  per_source AS (
    SELECT
      SUM(MIN(before, after)) AS same,
      SUM(before - MIN(before, after)) AS gone,
      SUM(after - MIN(before, after)) AS came
    FROM per_row GROUP BY source
  )
SELECT
  TOTAL(came - MIN(came, gone)), TOTAL(gone - MIN(came, gone)), TOTAL(same), TOTAL(MIN(came, gone))
FROM per_source
"""


@dataclass(frozen=True)
class Side:
    """Of one dataset: its rows, and the characters of all of a row's messages."""

    rows: int
    mean_characters: float
    longest_characters: int


@dataclass(frozen=True)
class Diff:
    """``changed`` rows have the same source and another answer; they count as neither added nor
    removed."""

    added: int
    removed: int
    unchanged: int
    changed: int
    before: Side
    after: Side
    columns_added: list[str]
    columns_removed: list[str]


def diff_datasets(*, storage: Storage, before: Dataset, after: Dataset) -> Diff:
    """The rows of both go through a temporary database on the disk: their number needs no
    memory."""
    with (
        tempfile.NamedTemporaryFile(dir=storage.temporary(), prefix="diff-") as file,
        closing(sqlite3.connect(file.name)) as table,
    ):
        # Nothing here is to outlive a crash.
        table.execute("PRAGMA journal_mode = OFF")
        table.execute("PRAGMA synchronous = OFF")
        table.execute("CREATE TABLE found (side INTEGER, source BLOB, record BLOB)")
        sides = [
            _fill(table, number, storage.dataset_records(dataset.id))
            for number, dataset in enumerate((before, after))
        ]
        added, removed, unchanged, changed = map(int, table.execute(_COUNTS).fetchone())
    return Diff(
        added=added,
        removed=removed,
        unchanged=unchanged,
        changed=changed,
        before=sides[0],
        after=sides[1],
        columns_added=[name for name in after.columns if name not in before.columns],
        columns_removed=[name for name in before.columns if name not in after.columns],
    )


def _fill(table: sqlite3.Connection, side: int, path: Path) -> Side:
    lengths: list[int] = [0, 0, 0]
    try:
        rows = ((side, *found) for found in _hashed(path, lengths))
        table.executemany("INSERT INTO found VALUES (?, ?, ?)", rows)
    except FileNotFoundError as error:
        raise NotFound("A dataset's file is gone: it was deleted a moment ago.") from error
    count, total, longest = lengths
    return Side(count, total / count if count else 0.0, longest)


def _hashed(path: Path, lengths: list[int]) -> Iterator[tuple[bytes, bytes]]:
    """Source and whole of every record as hashes; ``lengths``: how many, characters, longest."""
    with path.open("rb") as lines:
        for line in lines:
            messages = json.loads(line)["messages"]
            length = sum(len(message["content"]) for message in messages)
            lengths[:] = lengths[0] + 1, lengths[1] + length, max(lengths[2], length)
            source = [[message["role"], message["content"]] for message in messages[:-1]]
            yield _digest(json.dumps(source).encode()), _digest(line.rstrip())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
