"""Which rows a run validates on: told by source texts and a seed, the same everywhere. Pure."""

import hashlib
from collections.abc import Sequence

from shared.datasets import Record


def held_out_sources(records: Sequence[Record], *, share: float, seed: int) -> set[str]:
    """The source texts (by their key) to validate on. With two or more, neither side is empty,
    unless ``share`` is 0."""
    keys = sorted(
        {record.source_key for record in records},
        key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest(),
    )
    count = min(max(1, round(len(keys) * share)), len(keys) - 1) if share > 0 and keys else 0
    return set(keys[:count])
