"""F12: each process is asked to stop, once and twice, idle, in training, in the midst of a stream
and while it stops already. It ends in time and in order, and a run that was under way counts a
preemption, no failure."""

import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.chaos.client import SAVE_STEPS, follow
from tests.chaos.services import GATEWAY, trainer
from tests.chaos.stack import Stack
from tests.chaos.times import BUSY_SECONDS, ROUNDS, scaled

pytestmark = [pytest.mark.timeout(600), pytest.mark.chaos]

WORKER = trainer(1)
# The trainer may take this long to save; everything else, the shorter time.
TRAINER_SECONDS, OTHERS_SECONDS = 45.0, 10.0
Note = Callable[[str, float], None]


def terminate(stack: Stack, name: str, times: int) -> tuple[int, float]:
    """SIGTERM so many times; the exit code, and the seconds that it took."""
    moment = time.monotonic()
    for _ in range(times):
        stack.signal(name, signal.SIGTERM)
        time.sleep(0.1)
    return stack.wait_end(name), time.monotonic() - moment


def failures(stack: Stack, run_id: str) -> int:
    with closing(sqlite3.connect(stack.database, timeout=10)) as connection:
        (count,) = connection.execute("SELECT failures FROM runs WHERE id = ?", [run_id]).fetchone()
    return int(count)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", [GATEWAY, WORKER])
def test_an_idle_process(stack: Stack, recovery: Note, name: str, times: int) -> None:
    code, seconds = terminate(stack, name, times)
    recovery(f"F12 {name} idle", seconds)
    assert code in ((0, -signal.SIGTERM) if name == GATEWAY else (0,))
    assert seconds < OTHERS_SECONDS


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("stage", ["child_started", "step_done", "step 15", "draining"])
def test_a_worker_that_trains(
    stack: Stack, recovery: Note, stage: str, times: int, round: int
) -> None:
    begun = time.monotonic()
    run_id = stack.client.start_run()
    if stage in ("step 15", "draining"):
        stack.client.wait_step(run_id, 15)
    else:
        stack.stages.wait_passed(stage, begun)
    if stage == "draining":
        stack.stages.order("checkpoint_half", "pause 0.5")
    code, seconds = terminate(stack, WORKER, times)
    recovery(f"F12 trainer {stage}", seconds)
    assert code == 0
    assert seconds < scaled(TRAINER_SECONDS) + OTHERS_SECONDS
    assert not stack.children()
    stack.start(WORKER)
    run = stack.client.wait_end(run_id)
    assert (run["attempt"], failures(stack, run_id)) == (2, 0)
    if stage in ("step 15", "draining"):
        assert stack.client.resumed_step(run_id) > SAVE_STEPS


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize("times", [1, 2])
def test_a_gateway_in_the_midst_of_a_stream(
    stack: Stack, recovery: Note, times: int, round: int
) -> None:
    run_id = stack.client.start_run()
    told = follow(stack.client, run_id)
    reader = threading.Thread(target=told.read)
    reader.start()
    stack.client.wait_step(run_id, 5)
    code, seconds = terminate(stack, GATEWAY, times)
    recovery("F12 gateway streaming", seconds)
    reader.join(BUSY_SECONDS)
    assert len(told.ends) == 1
    assert code in (0, -signal.SIGTERM)
    assert seconds < OTHERS_SECONDS
    stack.start(GATEWAY)
    assert stack.client.wait_end(run_id)["attempt"] == 1
