"""F1: the worker is killed at every stage of its work; its run goes on and ends once."""

import signal
import time
from collections.abc import Callable

import pytest

from tests.chaos.client import SAVE_STEPS
from tests.chaos.services import trainer
from tests.chaos.stack import Stack
from tests.chaos.times import BUSY_SECONDS, ROUNDS, scaled

pytestmark = pytest.mark.timeout(600)

WORKER = trainer(1)
# Stages at which the worker kills itself: taken, before and after the child's start, between an
# event's line in the file and its publication.
OWN = ("worker_took_run", "worker_spawns", "worker_spawned", "event_written@checkpoint")
# Those of its child at which it is killed: first step, mid step, writing a checkpoint, between a
# checkpoint and its event.
CHILDS = ("step_begins@1", "step_done@25", "checkpoint_half@20", "checkpoint_saved@20")
# Behind the last step: the result is in its place, its event on disk, published, not acknowledged.
LAST = ("result_saved", "event_written@finished", "worker_delivered")
# What of them every `make test` goes through.
ALWAYS = ("worker_spawned", "step_done@25", "checkpoint_half@20")

Note = Callable[[str, float], None]


def stages(*names: str) -> list[object]:
    return [
        name if name in ALWAYS else pytest.param(name, marks=pytest.mark.chaos) for name in names
    ]


def kill_at(stack: Stack, stage: str) -> float:
    """Have the worker die where it is, or where its child waits; the moment of that."""
    hit = stack.stages.wait(stage)
    if not is_childs(stage):
        assert hit.pid == stack.services[WORKER].pid
        assert stack.wait_end(WORKER) == -signal.SIGKILL
        return time.monotonic()
    stack.kill(WORKER)
    moment = time.monotonic()
    hit.release()
    return moment


def is_childs(stage: str) -> bool:
    return stage.startswith(("step", "checkpoint", "result"))


def order(stack: Stack, stage: str) -> None:
    stack.stages.order(stage, "wait" if is_childs(stage) else "kill")


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize("stage", stages(*OWN, *CHILDS))
def test_a_run_survives_its_worker(stack: Stack, recovery: Note, stage: str, round: int) -> None:
    order(stack, stage)
    run_id = stack.client.start_run()
    moment = kill_at(stack, stage)
    reached = stack.client.run(run_id)["step"]
    stack.start(WORKER)
    again = stack.stages.wait_passed("step_begins", moment)
    recovery(f"F1 {stage}", again - moment)
    assert again - moment < scaled(60) + BUSY_SECONDS
    run = stack.client.wait_end(run_id)
    assert run["attempt"] <= 2
    assert stack.client.resumed_step(run_id) >= reached - SAVE_STEPS


@pytest.mark.chaos
@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize("stage", LAST)
def test_what_is_done_is_not_done_again(
    stack: Stack, recovery: Note, stage: str, round: int
) -> None:
    order(stack, stage)
    run_id = stack.client.start_run(max_steps=5)
    moment = kill_at(stack, stage)
    stack.start(WORKER)
    stack.client.wait_end(run_id)
    recovery(f"F1 {stage}", time.monotonic() - moment)
    # A worker that were to take the job once more would do so within this time.
    time.sleep(scaled(40))
    assert not [line for line in stack.stages.passed("step_begins") if line["time"] > moment]


@pytest.mark.chaos
@pytest.mark.parametrize("round", range(ROUNDS))
def test_an_idle_worker_is_missed_by_nobody(stack: Stack, recovery: Note, round: int) -> None:
    stack.kill(WORKER)
    moment = time.monotonic()
    run_id = stack.client.start_run(max_steps=5)
    stack.start(WORKER)
    recovery("F1 idle", stack.stages.wait_passed("step_begins", moment) - moment)
    assert stack.client.wait_end(run_id)["attempt"] == 1


@pytest.mark.chaos
@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_worker_is_killed_while_it_stops(stack: Stack, recovery: Note, round: int) -> None:
    run_id = stack.client.start_run()
    stack.client.wait_step(run_id, SAVE_STEPS + 2)
    stack.stages.order("checkpoint_half", "wait")
    stack.signal(WORKER, signal.SIGTERM)
    moment = kill_at(stack, "checkpoint_half")
    stack.start(WORKER)
    recovery("F1 drain", stack.stages.wait_passed("step_begins", moment) - moment)
    run = stack.client.wait_end(run_id)
    assert run["attempt"] == 2
    assert stack.client.resumed_step(run_id) == SAVE_STEPS
