"""The dead man's pipe, an allow-listed environment, and a SIGTERM that waits for its moment."""

import os
import signal
import subprocess
import sys
import time

import pytest

from trainer_service.child_process import child_environment
from trainer_service.exit_codes import PREEMPTED, Preempted
from trainer_service.guards import ENOUGH, StopRequest, sign_of_life

# Two threads write: each line in one call, so that neither lands inside the other.
WATCHED = """
import os, sys, time
from trainer_service.guards import die_with_parent, offer_to_oom_killer, watch_dead_man
die_with_parent(int(sys.argv[1]))
offer_to_oom_killer()
watch_dead_man(
    0,
    float(sys.argv[2]),
    lambda: os.write(1, b"enough\\n"),
    alive_at=time.monotonic() - float(sys.argv[3]),
)
os.write(1, b"watching\\n")
time.sleep(60)
"""


# A machine may be so busy that two bytes half a second apart come more than a second apart.
PATIENCE_SECONDS = 3.0
LONG_SECONDS = 60.0


def start_watched(
    parent: int, *, patience: float, silent: float = 0.0, said: bytes = b""
) -> "subprocess.Popen[bytes]":
    """``silent``: for how long its parent has not been heard of; ``said``: what waits in the
    pipe."""
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHED, str(parent), str(patience), str(silent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(os.environ),
    )
    assert process.stdin is not None
    process.stdin.write(said)
    process.stdin.flush()
    return process


def test_a_child_is_told_through_the_pipe_that_it_is_enough() -> None:
    process = start_watched(os.getpid(), patience=LONG_SECONDS)
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == b"watching\n"
        process.stdin.write(b"\n".join([sign_of_life(), ENOUGH, sign_of_life(), b""]))
        process.stdin.flush()
        assert process.stdout.readline() == b"enough\n"
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_a_child_that_is_left_alone_stops() -> None:
    with start_watched(os.getpid(), patience=PATIENCE_SECONDS) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == b"watching\n"
        fed_since = time.monotonic()
        while time.monotonic() < fed_since + PATIENCE_SECONDS + 1:
            child.stdin.write(sign_of_life() + b"\n")
            child.stdin.flush()
            time.sleep(0.3)
        assert child.poll() is None
        assert child.wait(LONG_SECONDS / 2) == PREEMPTED


def test_signs_that_are_read_late_count_from_when_they_were_written() -> None:
    """A worker that freezes while its child still starts has been given up as early as any."""
    old = b"%.3f\n" % (time.monotonic() - 2 * LONG_SECONDS)
    with start_watched(
        os.getpid(), patience=LONG_SECONDS, silent=LONG_SECONDS, said=old
    ) as forgotten:
        assert forgotten.wait(LONG_SECONDS / 2) == PREEMPTED
    new = sign_of_life() + b"\n" + ENOUGH + b"\n"
    with start_watched(
        os.getpid(), patience=LONG_SECONDS, silent=LONG_SECONDS, said=old + new
    ) as remembered:
        assert remembered.stdout is not None
        assert {remembered.stdout.readline() for _ in range(2)} == {b"watching\n", b"enough\n"}
        assert remembered.poll() is None
        remembered.kill()


def test_a_closed_pipe_stops_the_child_at_once() -> None:
    with start_watched(os.getpid(), patience=LONG_SECONDS) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == b"watching\n"
        child.stdin.close()
        assert child.wait(LONG_SECONDS / 2) == PREEMPTED


def test_a_child_of_a_parent_that_is_gone_does_not_start() -> None:
    with start_watched(os.getpid() + 1_000_000, patience=LONG_SECONDS) as child:
        assert child.stdout is not None
        assert child.wait(LONG_SECONDS / 2) == PREEMPTED
        assert child.stdout.read() == b""


def test_the_childs_environment_holds_no_secret() -> None:
    environment = child_environment(
        {
            "PATH": "/bin",
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "0",
            "GENPLAT_INTERNAL_TOKEN": "s",
            "GENPLAT_REDIS_URL": "s",
            "HF_TOKEN": "s",
            "OPENAI_API_KEY": "s",
        }
    )
    assert environment.keys() == {
        "PATH",
        "HF_HUB_OFFLINE",
        "CUDA_VISIBLE_DEVICES",
        "PYTHONPATH",
        "PYTHONUNBUFFERED",
        "PYTORCH_ALLOC_CONF",
    }
    assert child_environment({"HF_TOKEN": "s"}, "HF_TOKEN")["HF_TOKEN"] == "s"


def test_no_handler_of_errors_takes_a_stop_for_one() -> None:
    assert not issubclass(Preempted, Exception)


def test_a_stop_ends_preparation_at_once_and_training_at_the_next_step() -> None:
    previous = signal.getsignal(signal.SIGTERM)
    stop = StopRequest()
    stop.install()
    try:
        with pytest.raises(Preempted):
            signal.raise_signal(signal.SIGTERM)
        stop = StopRequest()
        stop.install()
        stop.deferred = True
        stop.check()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Preempted):
            stop.check()
    finally:
        signal.signal(signal.SIGTERM, previous)
