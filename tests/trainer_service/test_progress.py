"""When a run will end, evaluations among it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.hyperparameters import resolve_hyperparameters
from tests.trainer_service.runs import small_spec
from trainer_service.progress import Pace, evaluation_is_due, evaluations_from

COUNTS = st.integers(1, 40)


@given(COUNTS, COUNTS, COUNTS, st.data())
def test_evaluations_are_counted_as_they_come(
    steps: int, eval_steps: int, save_steps: int, data: st.DataObject
) -> None:
    numbers = resolve_hyperparameters(
        small_spec(max_steps=steps, eval_steps=eval_steps, save_steps=save_steps),
        examples=24,
        context_length=512,
    )
    first = data.draw(st.integers(1, steps))
    due = sum(evaluation_is_due(numbers, step) for step in range(first, steps + 1))
    assert evaluations_from(numbers, first) == due


def test_the_time_left_counts_evaluations_that_were_not_made_yet() -> None:
    pace = Pace(validation_tokens=600)
    assert pace.eta_seconds(9, 2) is None
    pace.add_step(tokens=100, seconds=2)
    # 600 tokens forward alone take half of what they would take in steps: 6 seconds.
    assert pace.eta_seconds(9, 2) == pytest.approx(9 * 2 + 2 * 6)
    pace.add_evaluation(4)
    assert pace.eta_seconds(9, 2) == pytest.approx(9 * 2 + 2 * 4)
    pace.add_other(1)
    assert pace.eta_seconds(9, 0) == pytest.approx(9 * (2 + 1))


def test_without_anything_to_validate_on_steps_alone_count() -> None:
    pace = Pace()
    pace.add_step(tokens=100, seconds=2)
    assert pace.eta_seconds(3, 0) == 6
