"""F2: the training child is killed or crashes; its worker stays, and after the third time the run
fails."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.chaos.client import SAVE_STEPS
from tests.chaos.services import trainer
from tests.chaos.stack import Stack
from tests.chaos.times import ROUNDS

pytestmark = pytest.mark.timeout(600)

WORKER = trainer(1)
STAGES = (
    "child_started",
    "step_begins@1",
    "step_done@25",
    "checkpoint_half@20",
    "checkpoint_saved@20",
    "result_saved",
)
KILL, SEGV, ABRT = signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT
FAULTS = [
    "step_done@25-SIGKILL",
    *(f"{stage}-SIGKILL" for stage in STAGES if stage != "step_done@25"),
    "step_done@25-SIGSEGV",
    "step_done@25-SIGABRT",
]


def end_child(stack: Stack, stage: str, number: signal.Signals) -> float:
    """Wait until the child is at a stage, and end it there; the moment of that."""
    hit = stack.stages.wait(stage)
    os.kill(hit.pid, number)
    hit.release()
    return time.monotonic()


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize(
    "fault", [FAULTS[0], *(pytest.param(fault, marks=pytest.mark.chaos) for fault in FAULTS[1:])]
)
def test_a_run_survives_its_child(
    stack: Stack, recovery: Callable[[str, float], None], fault: str, round: int
) -> None:
    worker = stack.services[WORKER].pid
    stage, _, name = fault.partition("-")
    stack.stages.order(stage, "wait")
    run_id = stack.client.start_run()
    moment = end_child(stack, stage, signal.Signals[name])
    if stage != "result_saved":
        again = stack.stages.wait_passed("step_begins", moment)
        recovery(f"F2 {fault}", again - moment)
    run = stack.client.wait_end(run_id)
    assert run["attempt"] == 2
    assert stack.services[WORKER].pid == worker and stack.services[WORKER].running
    expected = {"step_done@25": 20, "checkpoint_half@20": 10, "checkpoint_saved@20": 20}
    assert stack.client.resumed_step(run_id) == expected.get(stage, 0)


@pytest.mark.chaos
def test_a_run_whose_child_dies_three_times_fails_with_a_reason(stack: Stack) -> None:
    run_id = ""
    for attempt in (1, 2, 3):
        stack.stages.order(f"step_done@{attempt * SAVE_STEPS - 5}", "wait")
        run_id = run_id or stack.client.start_run()
        end_child(stack, f"step_done@{attempt * SAVE_STEPS - 5}", KILL)
    run = stack.client.wait_end(run_id, "failed")
    assert (run["error"]["code"], run["attempt"]) == ("oom_killed", 3)
    assert stack.services[WORKER].running
    stack.client.wait_end(stack.client.start_run(max_steps=2))
