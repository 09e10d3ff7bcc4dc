"""The rows of a synthesis as files, whole or not at all, and what was dropped and why."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway.synthesis.filtering import REASONS
from gateway.synthesis.pairs import Pair
from gateway.synthesis.work import Row
from shared.storage import atomic_file


@dataclass(frozen=True)
class Results:
    jsonl: Path
    parquet: Path
    report: Path
    journal: Path

    @classmethod
    def at(cls, folder: Path, name: str) -> "Results":
        return cls(
            *(folder / f"{name}{end}" for end in (".jsonl", ".parquet", ".report.json", ".journal"))
        )


def write_results(
    results: Results, rows: Sequence[Row], *, seed: Sequence[Pair], system: str, facts: Any
) -> dict[str, Any]:
    """Both files and the report, which it returns. ``seed``: rows that come before the new ones."""
    pairs = [*seed, *(row.pair for row in rows if row.kept)]
    before = {"system": system} if system else {}
    table = [{**before, "prompt": one.prompt, "completion": one.completion} for one in pairs]
    with atomic_file(results.jsonl) as out:
        for row in table:
            out.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    _write_parquet(results.parquet, table, (*before, "prompt", "completion"))
    report = _report(rows, seed=len(seed), facts=facts)
    with atomic_file(results.report) as out:
        out.write(json.dumps(report, ensure_ascii=False, indent=1).encode() + b"\n")
    return report


def _write_parquet(path: Path, rows: list[dict[str, str]], names: Sequence[str]) -> None:
    # Imported here: the command says sooner what is wrong with its arguments.
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in names])
    with atomic_file(path) as out:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), out)


def _report(rows: Sequence[Row], *, seed: int, facts: Any) -> dict[str, Any]:
    reasons = Counter(row.drop.reason for row in rows if row.drop)
    return {
        "kept": sum(row.kept for row in rows),
        "dropped": sum(reasons.values()),
        "seed_rows": seed,
        "reasons": dict(sorted(reasons.items())),
        "by_aim": dict(Counter(row.aim for row in rows if row.kept and row.aim)),
        "derived_from": facts,
        "dropped_rows": [
            {
                "number": row.number,
                "prompt": row.pair.prompt,
                "completion": row.pair.completion,
                "score": row.score,
                **asdict(row.drop),
            }
            for row in rows
            if row.drop
        ],
    }


def reasons_in_words(report: dict[str, Any]) -> list[str]:
    """A line for each reason, the most frequent first."""
    ranked = sorted(report["reasons"].items(), key=lambda one: -one[1])
    return [f"{count:6,}  {REASONS[reason]}" for reason, count in ranked]
