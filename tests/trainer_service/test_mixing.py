"""Weighted datasets mixed into epochs, and validation split off by source text."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from trainer_service.batching import StepOrder, plan_epoch
from trainer_service.mixing import (
    Part,
    copies_in_epoch,
    rows_in_epoch,
    spread,
)

PARTS = st.lists(
    st.builds(Part, st.integers(0, 30), st.floats(0.01, 5, allow_nan=False)), min_size=1, max_size=4
)


def test_a_weight_of_two_and_a_half_is_all_rows_twice_and_half_of_them_once_more() -> None:
    parts = [Part(10), Part(20, 2.5)]
    copies = copies_in_epoch(parts, seed=1, epoch=0)
    assert copies[:10] == [1] * 10
    assert Counter(copies[10:]) == {2: 10, 3: 10}
    assert rows_in_epoch(parts) == 10 + 50 == sum(copies)
    assert copies == copies_in_epoch(parts, seed=1, epoch=0)
    assert copies != copies_in_epoch(parts, seed=1, epoch=1)
    assert copies != copies_in_epoch(parts, seed=2, epoch=0)


def test_a_small_weight_never_leaves_a_dataset_out() -> None:
    assert sum(copies_in_epoch([Part(100), Part(5, 0.01)], seed=1, epoch=0)[100:]) == 1


@given(parts=PARTS, seed=st.integers(0, 99), epoch=st.integers(0, 5), batch=st.integers(1, 9))
def test_every_epoch_has_the_steps_that_were_counted(
    parts: list[Part], seed: int, epoch: int, batch: int
) -> None:
    """However datasets are weighted: the number of steps is known before, and no row is lost."""
    copies = copies_in_epoch(parts, seed=seed, epoch=epoch)
    lengths = [place % 7 for place in range(len(copies))]
    plan = plan_epoch(lengths, rows_per_step=batch, seed=seed, epoch=epoch, copies=copies)
    assert Counter(row for rows in plan for row in rows) == Counter(
        {row: count for row, count in enumerate(copies) if count}
    )
    if rows_in_epoch(parts):
        order = StepOrder(lengths, rows_per_step=batch, seed=seed, parts=parts)
        assert len(plan) == order.steps_per_epoch
        assert order.rows(epoch * order.steps_per_epoch) == plan[0]


def test_copies_of_a_row_lie_apart() -> None:
    order = list(range(10))
    mixed = spread(order, [3] * 10)
    assert all(mixed.index(row) + 10 == mixed.index(row, mixed.index(row) + 1) for row in order)
    plan = plan_epoch([5] * 40, rows_per_step=4, seed=1, epoch=0, copies=[2] * 40)
    assert all(len(set(rows)) == len(rows) for rows in plan)
