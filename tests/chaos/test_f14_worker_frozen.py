"""F14: a worker is frozen for longer than it takes to be given up, and wakes again. Its child is
gone before another one starts, and what it says afterwards is refused."""

import signal
import time
from collections.abc import Callable

import pytest

from tests.chaos.services import trainer
from tests.chaos.stack import Stack
from tests.chaos.times import LOST_SECONDS, ROUNDS, scaled

pytestmark = pytest.mark.timeout(600)

# Where the worker freezes itself: before its child, beside it, with an end that nobody heard of.
OWN = ("worker_took_run", "worker_spawns", "worker_spawned", "event_written@finished")
# Where its child is when the worker is frozen from outside.
CHILDS = ("step_done@15", "checkpoint_half@20")
STAGES = ["step_done@15"] + [
    pytest.param(stage, marks=pytest.mark.chaos) for stage in (*OWN, *CHILDS) if stage[-2:] != "15"
]


def freeze(stack: Stack, stage: str) -> tuple[str, float]:
    """Stop the worker that has the run; its name, and when."""
    hit = stack.stages.wait(stage)
    if stage in OWN:
        return stack.who_has(hit.pid), time.monotonic()
    worker = worker_of(stack, hit.pid)
    stack.signal(worker, signal.SIGSTOP)
    moment = time.monotonic()
    hit.release()
    return worker, moment


def worker_of(stack: Stack, child: int) -> str:
    (device,) = [
        line["about"].split()[0]
        for line in stack.stages.passed("child_started")
        if line["pid"] == child
    ][-1:]
    return trainer(int(device.rpartition("-")[2]))


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize("stage", STAGES)
def test_only_one_of_two_trains(
    pair: Stack, recovery: Callable[[str, float], None], stage: str, round: int
) -> None:
    # A child that nobody feeds must not come to its end before it is told to.
    pair.pace(scaled(1))
    pair.stages.order(stage, "stop" if stage in OWN else "wait")
    run_id = pair.client.start_run()
    worker, moment = freeze(pair, stage)
    if stage == "worker_spawned":
        # Its child is only now about to say that it is there.
        pair.stages.wait_passed("child_started", 0)
    children = pair.children()
    if stage != "event_written@finished":
        pair.stages.wait_passed("child_started", moment, but=children)
        # The invariants say the same of every moment.
        assert not set(children) & set(pair.children())
        again = pair.stages.wait_passed("step_begins", moment, but=children)
        recovery(f"F14 {stage}", again - moment)
    else:
        pair.client.wait(run_id, lambda run: run["attempt"] == 2)
    pair.signal(worker, signal.SIGCONT)
    run = pair.client.wait_end(run_id)
    assert run["attempt"] == 2
    # What the other says now is of the past; it is of use again for the next run.
    time.sleep(LOST_SECONDS)
    assert pair.client.run(run_id) == run
    pair.client.wait_end(pair.client.start_run(max_steps=2))
