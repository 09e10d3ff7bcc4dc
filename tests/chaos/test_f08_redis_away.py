"""F8: Redis dies, stays away, comes back empty, refuses the password, does not answer, is full.
Runs are taken all the while, training goes on, nobody is given up, and all recovers alone."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.chaos.client import STEPS
from tests.chaos.stack import Stack
from tests.chaos.times import ROUNDS, scaled

pytestmark = [pytest.mark.timeout(600), pytest.mark.chaos]

AWAY_SECONDS = 30.0
SILENT_SECONDS = 10.0


@contextmanager
def killed(stack: Stack) -> Iterator[None]:
    """Dead for a moment; what it had written down it still knows."""
    stack.valkey.stop()
    yield
    stack.valkey.start()


@contextmanager
def stopped(stack: Stack) -> Iterator[None]:
    stack.valkey.stop()
    yield
    time.sleep(scaled(AWAY_SECONDS))
    stack.valkey.start()


@contextmanager
def back_empty(stack: Stack) -> Iterator[None]:
    stack.valkey.stop()
    yield
    shutil.rmtree(stack.valkey.folder / "appendonlydir")
    stack.valkey.start()


@contextmanager
def another_password(stack: Stack) -> Iterator[None]:
    with contextlib.closing(stack.valkey.client()) as admin:
        admin.config_set("requirepass", "another")
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        yield
        time.sleep(scaled(AWAY_SECONDS))
        admin.config_set("requirepass", stack.valkey.password)


@contextmanager
def silent(stack: Stack) -> Iterator[None]:
    """It takes connections and does not answer."""
    with contextlib.closing(stack.valkey.client()) as admin:
        admin.execute_command("CLIENT", "PAUSE", int(scaled(SILENT_SECONDS) * 1000), "ALL")
    yield
    time.sleep(scaled(SILENT_SECONDS))


@contextmanager
def full(stack: Stack) -> Iterator[None]:
    with contextlib.closing(stack.valkey.client()) as admin:
        admin.config_set("maxmemory", "1")
        yield
        time.sleep(scaled(AWAY_SECONDS))
        admin.config_set("maxmemory", "0")


FAULTS = {
    fault.__name__: fault for fault in (killed, stopped, back_empty, another_password, silent, full)
}


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize("fault", FAULTS)
def test_redis_is_of_no_use(
    stack: Stack, recovery: Callable[[str, float], None], fault: str, round: int
) -> None:
    # Slow enough that it still trains when Redis is back.
    stack.pace(max(0.2, scaled(2)))
    first = stack.client.start_run()
    stack.client.wait_step(first, 5)
    with FAULTS[fault](stack):
        since = time.monotonic()
        # A write to a queue that is away is waited for some seconds, and then left to the sweep.
        second = stack.client.start_run(max_steps=2)
        stack.stages.wait_passed("step_begins", since)
    moment = time.monotonic()
    stack.client.wait_step(first, stack.client.run(first)["step"] + 1)
    recovery(f"F8 {fault}", time.monotonic() - moment)
    for run_id, steps in ((first, STEPS), (second, 2)):
        run = stack.client.wait_end(run_id, seconds=600)
        assert (run["attempt"], run["step"]) == (1, steps), stack.client.log(run_id)
