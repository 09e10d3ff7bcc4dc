"""F18: the same submission fifty times at once, fifty different ones at once, and one key for two
different things."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos.services import trainer
from tests.chaos.stack import Stack
from tests.chaos.times import ROUNDS

pytestmark = pytest.mark.timeout(600)

COUNT = 50


@pytest.fixture
def unattended(stack: Stack) -> Stack:
    """No trainer: what waits is cancelled at the end."""
    stack.kill(trainer(1))
    return stack


def submit_all(stack: Stack, keys: list[str]) -> list[str]:
    with ThreadPoolExecutor(COUNT) as pool:
        answers = pool.map(lambda key: stack.client.submit_until_answered(key), keys)
        return [answer["id"] for answer in answers]


def cancel_all(stack: Stack, run_ids: set[str]) -> None:
    for run_id in run_ids:
        assert stack.client.cancel(run_id).status_code == 200
        assert stack.client.run(run_id)["status"] == "cancelled"


@pytest.mark.parametrize("round", range(ROUNDS))
def test_the_same_fifty_times(unattended: Stack, round: int) -> None:
    key = f"same-{time.monotonic_ns()}"
    made = submit_all(unattended, [key] * COUNT)
    assert len(made) == COUNT and len(set(made)) == 1
    cancel_all(unattended, set(made))


@pytest.mark.parametrize("round", range(ROUNDS))
def test_fifty_at_once(unattended: Stack, round: int) -> None:
    made = submit_all(unattended, [f"{number}-{time.monotonic_ns()}" for number in range(COUNT)])
    assert len(set(made)) == COUNT
    cancel_all(unattended, set(made))


def test_one_key_for_two_things(unattended: Stack) -> None:
    key = f"reused-{time.monotonic_ns()}"
    made = unattended.client.submit_until_answered(key)
    other = unattended.client.submit(key, max_steps=7)
    assert other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    cancel_all(unattended, {made["id"]})
