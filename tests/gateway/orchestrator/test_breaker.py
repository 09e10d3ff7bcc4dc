"""When a breaker opens, how long it stays so, and who may probe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orchestrator.breaker import (
    COOLDOWN_SECONDS,
    FAILURES,
    LONGEST_SECONDS,
    PROBE_SECONDS,
    Breaker,
    Breakers,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def fail(breaker: Breaker, times: int = FAILURES) -> None:
    for _ in range(times):
        breaker.failed("down")


def test_it_opens_after_failures_in_a_row(breaker: Breaker) -> None:
    fail(breaker, FAILURES - 1)
    breaker.succeeded()
    fail(breaker, FAILURES - 1)
    assert breaker.state == "closed" and breaker.admits()
    breaker.failed("down")
    assert breaker.state == "open" and not breaker.admits() and breaker.reason == "down"


def test_one_probe_passes_when_the_time_is_over(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += COOLDOWN_SECONDS
    assert breaker.state == "half_open"
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert breaker.state == "closed" and breaker.admits()


def test_a_probe_that_fails_opens_it_for_longer(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += COOLDOWN_SECONDS
    assert breaker.admits()
    breaker.failed("down")
    clock.now += COOLDOWN_SECONDS
    assert breaker.state == "open"
    clock.now += COOLDOWN_SECONDS
    assert breaker.admits()


def test_a_probe_that_is_never_heard_of_gives_its_place_up(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += COOLDOWN_SECONDS
    assert breaker.admits() and not breaker.admits()
    clock.now += PROBE_SECONDS
    assert breaker.admits()
    breaker.left()
    assert breaker.admits()


def test_a_target_says_itself_when_to_come_back(breaker: Breaker, clock: Clock) -> None:
    breaker.failed("busy", retry_after=40)
    clock.now += 39
    assert breaker.state == "open"
    clock.now += 1
    assert breaker.state == "half_open"
    assert breaker.admits()
    breaker.failed("busy", retry_after=10_000)
    clock.now += LONGEST_SECONDS
    assert breaker.state == "half_open"


def test_late_failures_do_not_make_it_longer(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 20)
    clock.now += COOLDOWN_SECONDS
    assert breaker.state == "half_open"


@given(st.lists(st.sampled_from(["ask", "fail", "succeed", "wait", "leave"]), max_size=60))
def test_it_never_locks_up(events: list[str]) -> None:
    clock = Clock()
    breaker = Breakers(clock).of("any")
    for event in events:
        match event:
            case "ask":
                breaker.admits()
            case "fail":
                breaker.failed("down")
            case "succeed":
                breaker.succeeded()
            case "leave":
                breaker.left()
            case "wait":
                clock.now += 7
    clock.now += max(LONGEST_SECONDS, PROBE_SECONDS)
    assert breaker.admits()
