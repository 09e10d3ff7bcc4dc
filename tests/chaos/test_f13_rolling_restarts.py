"""F13: thirty rolling restarts within one run, as of a deploy that goes wrong and wrong again."""

import time
from collections.abc import Callable

import pytest

from tests.chaos.services import GATEWAY, trainer
from tests.chaos.stack import Stack
from tests.chaos.times import ROUNDS

pytestmark = [pytest.mark.timeout(1200), pytest.mark.chaos]

RESTARTS = 30


@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_run_outlives_thirty_restarts(
    pair: Stack, recovery: Callable[[str, float], None], round: int
) -> None:
    begun = time.monotonic()
    run_id = pair.client.start_run()
    for restart in range(RESTARTS):
        # Now a trainer, then the other, and now and then the gateway; in the midst of whatever.
        name = GATEWAY if restart % 5 == 4 else trainer(1 + restart % 2)
        assert pair.terminate(name) in (0, -15)
        pair.start(name)
        time.sleep(1)
    run = pair.client.wait_end(run_id, seconds=600)
    recovery("F13 whole run", time.monotonic() - begun)
    assert run["error"] is None
