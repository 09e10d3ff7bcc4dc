"""Batches of like length, in an order that depends on seed and epoch alone."""

import random
from typing import Any

import pytest
import torch

from trainer_service import batching
from trainer_service.batching import PassLimits, StepOrder, collate_rows, cut_to_passes, plan_epoch
from trainer_service.tokenizing import IGNORED, Row

SOURCE = random.Random(5)
LENGTHS = [int(SOURCE.lognormvariate(5, 0.6)) + 10 for _ in range(1000)]


def test_an_epoch_has_every_row_once() -> None:
    plan = plan_epoch(LENGTHS, rows_per_step=4, seed=1, epoch=0)
    assert sorted(row for rows in plan for row in rows) == list(range(1000))
    assert len(plan) == 250


def test_rows_of_like_length_come_together_so_that_little_is_padding() -> None:
    plan = plan_epoch(LENGTHS, rows_per_step=4, seed=1, epoch=0)
    padded = sum(max(LENGTHS[row] for row in rows) * len(rows) for rows in plan)
    assert padded / sum(LENGTHS) < 1.08


def test_the_order_is_random_but_the_same_again() -> None:
    plan = plan_epoch(LENGTHS, rows_per_step=4, seed=1, epoch=0)
    assert plan == plan_epoch(LENGTHS, rows_per_step=4, seed=1, epoch=0)
    assert plan != plan_epoch(LENGTHS, rows_per_step=4, seed=1, epoch=1)
    assert plan != plan_epoch(LENGTHS, rows_per_step=4, seed=2, epoch=0)
    longest = [max(LENGTHS[row] for row in rows) for rows in plan]
    assert longest != sorted(longest)


def test_steps_count_over_epochs() -> None:
    lengths = LENGTHS[:10]
    order = StepOrder(lengths, rows_per_step=4, seed=3)
    seen = [order.rows(step) for step in range(6)]
    assert seen[:3] == plan_epoch(lengths, rows_per_step=4, seed=3, epoch=0)
    assert seen[3:] == plan_epoch(lengths, rows_per_step=4, seed=3, epoch=1)
    # A resumed run starts in the middle.
    assert StepOrder(lengths, rows_per_step=4, seed=3).rows(4) == seen[4]


def test_the_order_of_a_seed_stays_what_it_was() -> None:
    """A run that was stopped under an older version goes on where it was."""
    order = StepOrder([30, 10, 20, 10, 50, 40, 30, 20, 60, 10], rows_per_step=3, seed=42)
    assert [order.rows(step) for step in range(9)] == [
        [8],
        [6, 5, 4],
        [7, 2, 0],
        [9, 3, 1],
        [3, 1, 9],
        [8],
        [0, 5, 4],
        [7, 2, 6],
        [2, 7, 6],
    ]


def test_an_epoch_is_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = []

    def count(lengths: list[int], *, epoch: int, **others: Any) -> list[list[int]]:
        planned.append(epoch)
        return plan_epoch(lengths, epoch=epoch, **others)

    monkeypatch.setattr(batching, "plan_epoch", count)
    order = StepOrder(LENGTHS[:10], rows_per_step=4, seed=3)
    for step in range(6):
        order.rows(step)
    assert planned == [0, 1]


def test_a_step_is_cut_by_rows_and_by_padded_tokens() -> None:
    sizes = [(0, length) for length in (100, 10, 10, 10, 300, 90)]
    by_rows = cut_to_passes(sizes, PassLimits(2))
    assert by_rows == [[0, 4], [3, 5], [1, 2]]
    by_tokens = cut_to_passes(sizes, PassLimits(6, 200))
    assert by_tokens == [[4], [5, 0], [1, 2, 3]]


def test_labels_are_the_next_tokens_and_padding_is_not_learned() -> None:
    rows = [Row((5, 6, 7), (IGNORED, 6, 7)), Row((8, 9), (IGNORED, 9))]
    batch = collate_rows(rows, pad_token_id=0)
    assert torch.equal(batch.input_ids, torch.tensor([[5, 6, 7], [8, 9, 0]]))
    assert torch.equal(batch.labels, torch.tensor([[6, 7, IGNORED], [9, IGNORED, IGNORED]]))
