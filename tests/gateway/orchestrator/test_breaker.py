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
    Visit,
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
        breaker.visit().failed("down")


def admits(breaker: Breaker) -> bool:
    return breaker.visit().admitted


def test_it_opens_after_failures_in_a_row(breaker: Breaker) -> None:
    fail(breaker, FAILURES - 1)
    breaker.visit().succeeded()
    fail(breaker, FAILURES - 1)
    assert breaker.state == "closed" and admits(breaker)
    breaker.visit().failed("down")
    assert breaker.state == "open" and not admits(breaker) and breaker.reason == "down"


def test_one_probe_passes_when_the_time_is_over(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += COOLDOWN_SECONDS
    assert breaker.state == "half_open"
    visits = [breaker.visit() for _ in range(3)]
    assert [visit.admitted for visit in visits] == [True, False, False]
    visits[0].succeeded()
    assert breaker.state == "closed" and admits(breaker)


def test_a_probe_that_fails_opens_it_for_longer(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += COOLDOWN_SECONDS
    breaker.visit().failed("down")
    clock.now += COOLDOWN_SECONDS
    assert breaker.state == "open"
    clock.now += COOLDOWN_SECONDS
    assert admits(breaker)


def test_a_probe_that_is_never_heard_of_gives_its_place_up(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += COOLDOWN_SECONDS
    assert admits(breaker) and not admits(breaker)
    clock.now += PROBE_SECONDS
    probe = breaker.visit()
    assert probe.admitted
    probe.left()
    assert admits(breaker)


def test_a_target_says_itself_when_to_come_back(breaker: Breaker, clock: Clock) -> None:
    breaker.visit().failed("busy", retry_after=40)
    clock.now += 39
    assert breaker.state == "open"
    clock.now += 1
    assert breaker.state == "half_open"
    breaker.visit().failed("busy", retry_after=10_000)
    clock.now += LONGEST_SECONDS
    assert breaker.state == "half_open"


def test_late_failures_do_not_make_it_longer(breaker: Breaker, clock: Clock) -> None:
    visits = [breaker.visit() for _ in range(20)]
    for visit in visits:
        visit.failed("down")
    clock.now += COOLDOWN_SECONDS
    assert breaker.state == "half_open"


@pytest.mark.parametrize("how", ["succeeded", "left", "failed"])
def test_what_began_before_it_opened_says_nothing_of_the_probe(
    breaker: Breaker, clock: Clock, how: str
) -> None:
    early = breaker.visit()
    fail(breaker)
    clock.now += COOLDOWN_SECONDS
    probe = breaker.visit()
    early.failed("late") if how == "failed" else getattr(early, how)()
    # The probe is still out, and still the only one.
    assert breaker.state == "half_open" and breaker.reason == "down" and not admits(breaker)
    probe.succeeded()
    assert breaker.state == "closed"


def test_who_was_asked_for_want_of_others_is_no_probe(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += COOLDOWN_SECONDS
    probe, other = breaker.visit(), breaker.visit()
    other.failed("down")
    assert breaker.state == "half_open" and not admits(breaker)
    probe.left()
    # Its answer is as good as a probe's.
    for again in (breaker.visit(), breaker.visit()):
        again.succeeded()
    assert breaker.state == "closed"


def test_how_it_ended_is_said_once(breaker: Breaker) -> None:
    visit = breaker.visit()
    for _ in range(FAILURES):
        visit.failed("down")
    assert breaker.state == "closed"


def test_an_outage_of_days_has_no_end_in_numbers(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    for _ in range(1100):
        clock.now += LONGEST_SECONDS
        breaker.visit().failed("down")
    clock.now += LONGEST_SECONDS
    assert admits(breaker)


EVENTS = st.sampled_from(["ask", "fail", "succeed", "wait", "leave"])


@given(st.lists(st.tuples(EVENTS, st.integers(0, 5)), max_size=80))
def test_it_never_locks_up_and_never_lets_two_probe(events: list[tuple[str, int]]) -> None:
    clock = Clock()
    breaker = Breakers(clock).of("any")
    under_way: list[Visit] = []
    for event, which in events:
        visit = under_way.pop(which % len(under_way)) if under_way and event != "ask" else None
        match event:
            case "ask":
                was_half_open, others = breaker.state == "half_open", breaker.probe
                made = breaker.visit()
                under_way.append(made)
                if was_half_open and made.admitted and others is not None:
                    assert clock.now >= others.began + PROBE_SECONDS
            case "fail" if visit:
                visit.failed("down")
            case "succeed" if visit:
                visit.succeeded()
            case "leave" if visit:
                visit.left()
            case "wait":
                clock.now += 7
    clock.now += max(LONGEST_SECONDS, PROBE_SECONDS)
    assert admits(breaker)
