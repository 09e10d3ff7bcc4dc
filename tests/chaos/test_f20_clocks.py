"""F20: a worker's clock is ten minutes off, or jumps while it trains. Nothing is lost or done twice
by that: the gateway counts silence on its own monotonic clock."""

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.invariants import check
from tests.chaos.services import trainer
from tests.chaos.stack import Stack, running_stack
from tests.chaos.times import LOST_SECONDS, ROUNDS, scaled

pytestmark = [pytest.mark.timeout(600), pytest.mark.chaos]

TEN_MINUTES = 600
# The clock of one process, moved by the number of seconds in a file that may change.
LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static int64_t moved(void) {
    static int64_t *seconds;
    if (!seconds) {
        int file = open(getenv("CHAOS_CLOCK"), O_RDONLY);
        seconds = mmap(0, sizeof *seconds, PROT_READ, MAP_SHARED, file, 0);
    }
    return seconds == MAP_FAILED ? 0 : *seconds;
}

int clock_gettime(clockid_t clock, struct timespec *when) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(clock, when);
    if (clock == CLOCK_REALTIME) when->tv_sec += moved();
    return answer;
}

time_t time(time_t *when) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (when) *when = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict when, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    when->tv_sec = now.tv_sec;
    when->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: the clock of one process cannot be moved here")
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(LIBRARY)
    command = ["cc", "-shared", "-fPIC", "-o", folder / "clock.so", folder / "clock.c", "-ldl"]
    subprocess.run(command, check=True)
    return folder / "clock.so"


class Clock:
    """The clock of the trainers."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.move(0)

    def move(self, seconds: int) -> None:
        with self.file.open("r+b" if self.file.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def stack(tmp_path: Path, library: Path, clock: Clock) -> Iterator[Stack]:
    with running_stack(tmp_path / "stack") as stack:
        environment = stack.services[trainer(1)].environment
        environment |= {"LD_PRELOAD": os.fspath(library), "CHAOS_CLOCK": os.fspath(clock.file)}
        stack.restart(trainer(1))
        yield stack
        stack.rest()
        check(stack)


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize("seconds", [-TEN_MINUTES, TEN_MINUTES])
def test_a_clock_that_is_wrong(stack: Stack, clock: Clock, seconds: int, round: int) -> None:
    clock.move(seconds)
    run_id = stack.client.start_run(max_steps=60)
    assert stack.client.wait_end(run_id)["attempt"] == 1


@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_clock_that_jumps(stack: Stack, clock: Clock, round: int) -> None:
    stack.pace(max(0.3, scaled(3)))
    run_id = stack.client.start_run()
    for step, seconds in ((3, TEN_MINUTES), (10, -TEN_MINUTES), (20, 0)):
        stack.client.wait_step(run_id, step)
        clock.move(seconds)
        time.sleep(LOST_SECONDS / 2)
    assert stack.client.wait_end(run_id)["attempt"] == 1
