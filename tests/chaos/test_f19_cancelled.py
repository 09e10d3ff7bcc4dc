"""F19: a run is cancelled at every stage of its life: it has one end, and asking again is no
error."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos.services import trainer
from tests.chaos.stack import Stack
from tests.chaos.times import BUSY_SECONDS, ROUNDS

pytestmark = [pytest.mark.timeout(600), pytest.mark.chaos]

# Where somebody waits while the cancel comes.
STAGES = (
    "worker_took_run",
    "worker_spawns",
    "worker_spawned",
    "child_started",
    "step_begins@1",
    "step_done@25",
    "checkpoint_half@20",
    "checkpoint_saved@20",
    "result_saved",
    "event_written@finished",
    "worker_delivered",
)
Note = Callable[[str, float], None]


def cancel_often(stack: Stack, run_id: str) -> set[int]:
    """Five at once; the status codes that were answered."""
    with ThreadPoolExecutor(5) as pool:
        answers = pool.map(lambda _: stack.client.cancel(run_id), range(5))
        return {answer.status_code for answer in answers}


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize("stage", STAGES)
def test_a_cancel_at(stack: Stack, recovery: Note, stage: str, round: int) -> None:
    stack.stages.order(stage, "wait")
    run_id = stack.client.start_run()
    hit = stack.stages.wait(stage)
    moment = time.monotonic()
    assert cancel_often(stack, run_id) <= {200, 409}
    hit.release()
    run = stack.client.wait(
        run_id, lambda run: run["status"] in ("succeeded", "cancelled"), BUSY_SECONDS
    )
    recovery(f"F19 {stage}", time.monotonic() - moment)
    if stage not in ("result_saved", "event_written@finished", "worker_delivered"):
        assert run["status"] == "cancelled"
    time.sleep(2)
    assert stack.client.run(run_id)["status"] == run["status"]
    assert cancel_often(stack, run_id) == {200 if run["status"] == "cancelled" else 409}
    stack.client.wait_end(stack.client.start_run(max_steps=2))


@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_cancel_of_a_run_that_waits(stack: Stack, round: int) -> None:
    stack.kill(trainer(1))
    run_id = stack.client.start_run()
    assert cancel_often(stack, run_id) <= {200, 409}
    assert stack.client.run(run_id)["status"] == "cancelled"
    stack.start(trainer(1))
    stack.client.wait_end(stack.client.start_run(max_steps=2))
    assert stack.client.run(run_id)["status"] == "cancelled"


@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_cancel_while_redis_is_away(stack: Stack, round: int) -> None:
    run_id = stack.client.start_run()
    stack.client.wait_step(run_id, 5)
    stack.valkey.stop()
    assert stack.client.cancel(run_id).status_code == 200
    stack.valkey.start()
    stack.client.wait_end(run_id, "cancelled")
