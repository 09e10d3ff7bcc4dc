"""Rows to validate on: apart by their source texts, and never all or none."""

import pytest

from shared.datasets import Record
from shared.splits import split_by_source


def test_answers_to_one_source_are_never_parted() -> None:
    records = [Record.from_pair(f"source {index // 4}", f"answer {index}") for index in range(40)]
    training, validation = split_by_source(records, share=0.3, seed=7)
    assert len(training) == 28 and len(validation) == 12
    assert not {r.source_key for r in training} & {r.source_key for r in validation}
    assert split_by_source(records, share=0.3, seed=7) == (training, validation)
    assert split_by_source(records, share=0.3, seed=8) != (training, validation)


@pytest.mark.parametrize(
    ("sources", "share", "held_out"), [(1, 0.5, 0), (2, 0.01, 1), (2, 0.99, 1), (5, 0.0, 0)]
)
def test_neither_side_of_a_split_is_empty(sources: int, share: float, held_out: int) -> None:
    records = [Record.from_pair(str(index), "x") for index in range(sources)]
    training, validation = split_by_source(records, share=share, seed=1)
    assert len(validation) == held_out and len(training) == sources - held_out
