"""F7: Redis is emptied while nothing happens, while runs wait and while one trains; all of them
end, and once."""

import contextlib
import time
from collections.abc import Callable

import pytest

from tests.chaos.client import STEPS
from tests.chaos.stack import Stack
from tests.chaos.times import BUSY_SECONDS, ROUNDS, scaled

pytestmark = pytest.mark.timeout(900)

DELAY_SECONDS = 15.0
Note = Callable[[str, float], None]


def wait_queued(stack: Stack, run_ids: list[str]) -> float:
    """Until Redis holds the jobs of these runs; the moment when it does."""
    deadline = time.monotonic() + scaled(DELAY_SECONDS) + BUSY_SECONDS
    with contextlib.closing(stack.valkey.client()) as client:
        while client.zcard("genplat:queue") < len(run_ids):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return time.monotonic()


@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_run_in_training_and_one_that_waits(stack: Stack, recovery: Note, round: int) -> None:
    first = stack.client.start_run()
    second = stack.client.start_run(max_steps=5)
    stack.client.wait_step(first, 5)
    stack.valkey.flush()
    moment = time.monotonic()
    # The running one says again that it has its job.
    recovery("F7 running", wait_queued(stack, [first, second][:1]) - moment)
    for run_id, steps in ((first, STEPS), (second, 5)):
        run = stack.client.wait_end(run_id)
        assert (run["attempt"], run["step"]) == (1, steps)


@pytest.mark.chaos
@pytest.mark.parametrize("round", range(ROUNDS))
def test_twenty_runs_that_wait(stack: Stack, recovery: Note, round: int) -> None:
    stack.stages.order("step_begins@1", "wait")
    first = stack.client.start_run()
    hit = stack.stages.wait("step_begins@1")
    waiting = [stack.client.start_run(max_steps=1) for _ in range(20)]
    stack.valkey.flush()
    moment = time.monotonic()
    recovery("F7 20 queued", wait_queued(stack, waiting) - moment)
    hit.release()
    for run_id in (first, *waiting):
        assert stack.client.wait_end(run_id, seconds=600)["attempt"] == 1


@pytest.mark.chaos
@pytest.mark.parametrize("round", range(ROUNDS))
def test_nothing_under_way(stack: Stack, recovery: Note, round: int) -> None:
    stack.valkey.flush()
    moment = time.monotonic()
    run_id = stack.client.start_run(max_steps=5)
    recovery("F7 idle", stack.stages.wait_passed("step_begins", moment) - moment)
    assert stack.client.wait_end(run_id)["attempt"] == 1
