"""When to stop early, and which step is best, from validation losses alone."""

import json
import math
from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from trainer_service.standing import Standing

LOSSES = st.lists(st.floats(min_value=0, max_value=10), min_size=1, max_size=30)


def after(losses: list[float], *, keep: bool = True) -> Standing:
    standing = Standing()
    for step, loss in enumerate(losses, 1):
        standing = standing.evaluated(step, loss)
        standing = standing.kept(step) if keep else standing
    return standing


@given(LOSSES)
def test_the_best_is_the_first_of_the_lowest(losses: list[float]) -> None:
    standing = after(losses)
    first = losses.index(min(losses))
    assert (standing.best_step, standing.best_loss) == (first + 1, min(losses))
    assert standing.lowest_loss == min(losses)
    assert standing.stale == len(losses) - 1 - first


@given(LOSSES, st.integers(0, 30))
def test_it_goes_on_after_being_written_down_as_if_it_had_not_been(
    losses: list[float], cut: int
) -> None:
    standing = Standing(**json.loads(json.dumps(asdict(after(losses[:cut])))))
    for step, loss in enumerate(losses[cut:], cut + 1):
        standing = standing.evaluated(step, loss).kept(step)
    assert standing == after(losses)


def test_only_weights_that_were_kept_can_be_the_best() -> None:
    standing = after([3.0, 1.0], keep=False)
    assert (standing.lowest_loss, standing.best_step) == (1.0, None)
    assert standing.would_be_best(2) and not standing.would_be_best(1)
    standing = standing.kept(2)
    assert (standing.best_step, standing.best_loss) == (2, 1.0)
    assert standing.kept(3) == standing
    gone = standing.without_best()
    assert gone.evaluated(3, 2.0).kept(3).best_step == 3 and gone.lowest_loss == 1.0


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    standing = after([2.0, math.nan, math.nan])
    assert (standing.best_step, standing.stale) == (1, 2)
