"""Slow answers count at once and are forgotten slowly; failures are no times."""

import pytest

from gateway.orchestrator.latency import HALF_LIFE_SECONDS, Latencies


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def answered(latencies: Latencies, clock: Clock, label: str, seconds: float) -> None:
    with latencies.asking(label):
        clock.now += seconds


def test_a_slow_answer_counts_at_once_and_fades() -> None:
    clock = Clock()
    latencies = Latencies(clock)
    assert latencies.cost("a") == 0
    answered(latencies, clock, "a", 0.1)
    assert latencies.cost("a") == pytest.approx(0.1)
    answered(latencies, clock, "a", 2.0)
    assert latencies.cost("a") == pytest.approx(2.0)
    answered(latencies, clock, "a", 0.1)
    assert 1.5 < latencies.cost("a") < 2.0
    clock.now += HALF_LIFE_SECONDS
    assert 0.75 < latencies.cost("a") < 1.0


def test_those_who_wait_make_it_dearer() -> None:
    clock = Clock()
    latencies = Latencies(clock)
    answered(latencies, clock, "a", 1.0)
    with latencies.asking("a"), latencies.asking("a"):
        assert latencies.cost("a") == pytest.approx(3.0)
    assert latencies.cost("a") == pytest.approx(1.0)


def test_a_failure_is_no_time() -> None:
    clock = Clock()
    latencies = Latencies(clock)
    with pytest.raises(ValueError, match="no"), latencies.asking("a"):
        clock.now += 9
        raise ValueError("no")
    assert latencies.cost("a") == 0
