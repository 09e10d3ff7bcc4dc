"""F9: everything is killed at once, at a moment that nobody chose, and started again."""

import random
import time
from collections.abc import Callable

import pytest

from tests.chaos.stack import Stack
from tests.chaos.times import ROUNDS

pytestmark = [pytest.mark.timeout(900), pytest.mark.chaos]

SEED = 20_260_101


@pytest.mark.parametrize("round", range(3 * ROUNDS))
def test_everything_dies_at_once(
    stack: Stack, recovery: Callable[[str, float], None], round: int
) -> None:
    run_ids = [stack.client.start_run(max_steps=30), stack.client.start_run(max_steps=3)]
    time.sleep(random.Random(SEED + round).uniform(0, 10))
    for name, service in stack.services.items():
        if service.running:
            stack.kill(name)
    stack.valkey.stop()
    moment = time.monotonic()
    stack.valkey.start()
    stack.start(*stack.services)
    run_ids.append(stack.client.start_run(max_steps=3))
    recovery("F9 until a run is taken", time.monotonic() - moment)
    for run_id in run_ids:
        assert stack.client.wait_end(run_id)["attempt"] <= 2
