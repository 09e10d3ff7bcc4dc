"""A target is asked again where that may help, and never so often that it makes things worse."""

import pytest

from gateway.orchestrator.retries import RetryBudgets, delay_before
from shared.errors import InvalidRequest, TimedOut, TooManyRequests, Unavailable, UpstreamFailed


def test_at_most_one_in_ten_is_asked_again_in_the_long_run() -> None:
    budget, retries = RetryBudgets().of("a"), 0
    for number in range(10_000):
        # Every second one fails.
        if number % 2:
            budget.succeeded()
            continue
        budget.failed()
        retries += budget.allows
    assert retries < 10
    other, asked = RetryBudgets().of("b"), 0
    for number in range(10_000):
        if number % 20:
            other.succeeded()
            continue
        other.failed()
        asked += other.allows
    # Where few fail, each of them is.
    assert asked == 500


def test_budgets_are_of_one_target() -> None:
    budgets = RetryBudgets()
    for _ in range(6):
        budgets.of("a").failed()
    assert not budgets.of("a").allows
    assert budgets.of("b").allows


@pytest.mark.parametrize("error", [UpstreamFailed("cut"), Unavailable("gone")])
def test_each_wait_is_about_twice_the_last(error: UpstreamFailed | Unavailable) -> None:
    for retry, most in ((1, 0.2), (2, 0.4), (3, 0.8)):
        for is_last in (True, False):
            delay = delay_before(error, retry, is_last=is_last)
            assert delay is not None
            assert most / 2 <= delay <= most


def test_what_does_not_help_is_not_tried() -> None:
    assert delay_before(TimedOut("slow"), 1, is_last=True) is None
    assert delay_before(InvalidRequest("wrong"), 1, is_last=True) is None
    soon, late = TooManyRequests("", retry_after=1), TooManyRequests("", retry_after=60)
    assert delay_before(soon, 1, is_last=True) == 1
    # Another target can be asked at once.
    assert delay_before(soon, 1, is_last=False) is None
    assert delay_before(late, 1, is_last=True) is None
    resting = Unavailable("", retry_after=60)
    assert delay_before(resting, 1, is_last=True) is None
