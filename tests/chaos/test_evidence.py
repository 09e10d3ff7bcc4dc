"""The checker sees a real stack as it is: what is planted there is found, each by its invariant."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.evidence import collect
from tests.chaos.invariants import complaints
from tests.chaos.services import ADMIN_KEY, GATEWAY
from tests.chaos.stack import Stack, running_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway alone: there is a dataset, and a run that waits."""
    with running_stack(tmp_path_factory.mktemp("chaos") / "stack", trainers=0) as stack:
        stack.client.start_run()
        yield stack


def found(stack: Stack) -> str:
    return "\n".join(complaints(collect(stack)))


def source(stack: Stack) -> Path:
    return stack.storage.dataset_source(stack.client.dataset_id)


def change_the_data(stack: Stack) -> Callable[[], object]:
    original = source(stack).read_bytes()
    source(stack).write_bytes(original + b"more,rows\n")
    return lambda: source(stack).write_bytes(original)


def leave_an_orphan(stack: Stack) -> Callable[[], object]:
    folder = stack.storage.root / "runs" / "run_of_nobody"
    folder.mkdir(parents=True)
    return folder.rmdir


def leave_a_half_written_file(stack: Stack) -> Callable[[], object]:
    file = stack.storage.root / "models" / "where-no-sweep-looks" / "weights.tmp"
    file.parent.mkdir()
    file.touch()
    return file.unlink


def leave_a_process(stack: Stack) -> Callable[[], object]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"],
        env=stack.services[GATEWAY].environment,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline()

    def end() -> None:
        with process:
            process.kill()

    return end


def say(words: str) -> Callable[[Stack], Callable[[], object]]:
    def plant(stack: Stack) -> Callable[[], object]:
        log = stack.logs / f"{GATEWAY}.log"
        size = log.stat().st_size
        with log.open("a") as file:
            file.write(words)
        return lambda: os.truncate(log, size)

    return plant


def acknowledge_what_is_not_there(stack: Stack) -> Callable[[], object]:
    stack.history.add("run", key="never-stored", id="run_never_stored", steps=1)
    return lambda: None


def test_nothing_is_found_where_nothing_is_wrong(stack: Stack) -> None:
    assert found(stack) == ""


@pytest.mark.parametrize(
    ("invariant", "plant"),
    [
        ("i5_", change_the_data),
        ("i6_", leave_an_orphan),
        ("i10_", leave_a_half_written_file),
        ("i10_", leave_a_process),
        ("i11_", say(f"the key is {ADMIN_KEY}\n")),
        ("i11_", say("Traceback (most recent call last):\n  boom\n")),
        # The last: a promise cannot be taken back.
        ("i1_", acknowledge_what_is_not_there),
    ],
    ids=["data", "orphan", "file", "process", "secret", "traceback", "promise"],
)
def test_what_is_planted_is_found(
    stack: Stack, invariant: str, plant: Callable[[Stack], Callable[[], object]]
) -> None:
    undo = plant(stack)
    try:
        assert found(stack).startswith(invariant)
    finally:
        undo()
