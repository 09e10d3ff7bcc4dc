"""The results of a batch as files: JSON lines and Parquet, whole or not at all."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gateway.batch_inference.journal import Journal
from gateway.batch_inference.rows import Rows
from shared.storage import atomic_file

COLUMNS = (
    "instructions",
    "target_responses",
    "candidate_responses",
    "model_id",
    "model_sha",
)
_ROWS_AT_ONCE = 1000
# Line ends to some who read, though not to JSON.
_LINE_ENDS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})
Row = dict[str, str | None]


@dataclass(frozen=True)
class Results:
    jsonl: Path
    parquet: Path

    @classmethod
    def at(cls, folder: Path, name: str) -> "Results":
        return cls(folder / f"{name}.jsonl", folder / f"{name}.parquet")

    def copy_to(self, other: "Results") -> None:
        for source, target in ((self.jsonl, other.jsonl), (self.parquet, other.parquet)):
            with source.open("rb") as content, atomic_file(target) as out:
                shutil.copyfileobj(content, out)


def write_results(
    results: Results, rows: Rows, journal: Journal, *, model_id: str, model_sha: str
) -> None:
    """Both files, in the order of the dataset. A row that failed has an empty answer, one for
    which none is desired no target."""

    def each() -> Iterator[Row]:
        for record, entry in zip(rows.records(), journal.entries(), strict=True):
            # A lone half of a surrogate pair can be in JSON, but in no file.
            yield {
                "instructions": "\n".join(message.content for message in record.prompt),
                "target_responses": record.completion or None,
                "candidate_responses": _encodable(entry.get("text", "")),
                "model_id": model_id,
                "model_sha": model_sha,
            }

    with atomic_file(results.jsonl) as out:
        for row in each():
            line = json.dumps(row, ensure_ascii=False).translate(_LINE_ENDS)
            out.write(line.encode() + b"\n")
    _write_parquet(results.parquet, each())


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _write_parquet(path: Path, rows: Iterator[Row]) -> None:
    # Imported here: the command says sooner what is wrong with its arguments.
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    with atomic_file(path) as out, pq.ParquetWriter(out, schema) as writer:
        while several := list(islice(rows, _ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(several, schema=schema))
