"""A run that was killed at any step ends as one that was not: the same losses, the same adapter."""

import os
import random
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.chaos.client import STEPS
from tests.chaos.stack import Stack
from tests.chaos.times import ROUNDS

pytestmark = [pytest.mark.timeout(900), pytest.mark.chaos]

LAST = 5
LOSS, WEIGHT = 1e-4, 1e-5
SEED = 3
# Beside a checkpoint, at the ends, and wherever.
STEPS_TO_DIE_AT = [
    (3,),
    (10,),
    (11,),
    (25,),
    (39,),
    *(
        tuple(sorted(random.Random(SEED + round).sample(range(1, STEPS), 2)))
        for round in range(2 * ROUNDS)
    ),
]
SPEC = {"lora_dropout": 0.2, "validation_split": 0.2, "eval_steps": 10}


def last_losses(stack: Stack, run_id: str) -> list[float]:
    rows = stack.client.metrics(run_id)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    return [row["loss"] for row in rows[-LAST:]]


def adapter(stack: Stack, run_id: str) -> Path:
    return stack.storage.run_result(run_id) / "adapter_model.safetensors"


@pytest.fixture(scope="module")
def undisturbed() -> dict[Path, str]:
    """Of each stack the run to compare with, once it is there."""
    return {}


@pytest.mark.parametrize("steps", STEPS_TO_DIE_AT, ids=str)
def test_nothing_shows_where_it_was_killed(
    stack: Stack, undisturbed: dict[Path, str], steps: tuple[int, ...]
) -> None:
    stack.pace(0)
    if stack.folder not in undisturbed:
        undisturbed[stack.folder] = stack.client.start_run(**SPEC)
        stack.client.wait_end(undisturbed[stack.folder])
    run_id = ""
    for step in steps:
        stack.stages.order(f"step_done@{step}", "wait")
        run_id = run_id or stack.client.start_run(**SPEC)
        hit = stack.stages.wait(f"step_done@{step}")
        os.kill(hit.pid, signal.SIGKILL)
    run = stack.client.wait_end(run_id)
    assert run["attempt"] == 1 + len(steps)
    other = undisturbed[stack.folder]
    assert last_losses(stack, run_id) == pytest.approx(last_losses(stack, other), abs=LOSS)
    weights, expected = load_file(adapter(stack, run_id)), load_file(adapter(stack, other))
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        assert (weight - expected[name]).abs().max() <= WEIGHT, name
