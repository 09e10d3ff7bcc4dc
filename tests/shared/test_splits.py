"""Rows to validate on: told by their source texts, and never all or none."""

import pytest

from shared.datasets import Record
from shared.splits import held_out_sources


def test_a_share_of_the_sources_by_seed() -> None:
    records = [Record.from_pair(f"source {index // 4}", f"answer {index}") for index in range(40)]
    found = held_out_sources(records, share=0.3, seed=7)
    assert len(found) == 3 and found <= {record.source_key for record in records}
    assert held_out_sources(records[::-1], share=0.3, seed=7) == found
    assert held_out_sources(records, share=0.3, seed=8) != found


@pytest.mark.parametrize(
    ("sources", "share", "held_out"), [(1, 0.5, 0), (2, 0.01, 1), (2, 0.99, 1), (5, 0.0, 0)]
)
def test_neither_side_of_a_split_is_empty(sources: int, share: float, held_out: int) -> None:
    records = [Record.from_pair(str(index), "x") for index in range(sources)]
    assert len(held_out_sources(records, share=share, seed=1)) == held_out
