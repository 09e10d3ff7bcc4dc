"""Batches of like length, in an order that depends on seed and epoch alone."""

import random

import torch

from trainer_service.batching import collate, cut_to_passes, plan_epoch, step_rows
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
    seen = [step_rows(lengths, step=step, rows_per_step=4, seed=3) for step in range(6)]
    assert seen[:3] == plan_epoch(lengths, rows_per_step=4, seed=3, epoch=0)
    assert seen[3:] == plan_epoch(lengths, rows_per_step=4, seed=3, epoch=1)


def test_a_step_is_cut_by_rows_and_by_padded_tokens() -> None:
    lengths = [100, 10, 10, 10, 300, 90]
    by_rows = cut_to_passes(lengths, range(6), max_rows=2, max_tokens=None)
    assert by_rows == [[1, 2], [3, 5], [0, 4]]
    by_tokens = cut_to_passes(lengths, range(6), max_rows=6, max_tokens=200)
    assert by_tokens == [[1, 2, 3], [5, 0], [4]]


def test_labels_are_the_next_tokens_and_padding_is_not_learned() -> None:
    batch = collate([Row((5, 6, 7), (IGNORED, 6, 7)), Row((8, 9), (IGNORED, 9))], pad_token_id=0)
    assert torch.equal(batch.input_ids, torch.tensor([[5, 6, 7], [8, 9, 0]]))
    assert torch.equal(batch.labels, torch.tensor([[6, 7, IGNORED], [9, IGNORED, IGNORED]]))
