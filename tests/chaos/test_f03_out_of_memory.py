"""F3: memory runs out under a training child: it alone goes, its worker and the next run live."""

import resource
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.client import ENDED
from tests.chaos.services import trainer
from tests.chaos.stack import Stack
from tests.chaos.times import ROUNDS

pytestmark = [pytest.mark.timeout(600), pytest.mark.chaos]

WORKER = trainer(1)
KIB, MIB = 2**10, 2**20
SECONDS = 15.0
CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
)
Note = Callable[[str, float], None]


@pytest.mark.parametrize("round", range(ROUNDS))
def test_no_more_address_space(stack: Stack, recovery: Note, round: int) -> None:
    """Allocations fail: that is the run's own size, and trying again would not help."""
    stack.stages.order("step_begins@5", "wait")
    run_id = stack.client.start_run()
    hit = stack.stages.wait("step_begins@5")
    resource.prlimit(hit.pid, resource.RLIMIT_AS, (600 * MIB, 600 * MIB))
    moment = time.monotonic()
    hit.release()
    run = stack.client.wait(run_id, lambda run: run["status"] in ENDED or run["attempt"] > 1)
    recovery("F3 address space", time.monotonic() - moment)
    assert time.monotonic() - moment < SECONDS
    if run["status"] == "failed":
        assert run["error"]["code"] == "gpu_oom"
        assert "per_device_train_batch_size" in run["error"]["message"]
    assert stack.services[WORKER].running
    stack.client.wait_end(stack.client.start_run(max_steps=2))


def limited_group(pid: int) -> Path:
    """Put a process into a cgroup of its own, of version 2 or 1; the file that limits its memory.
    Skips where this machine lets us make none."""
    for root, limit in CGROUPS:
        group = root / f"genplat-chaos-{pid}"
        with suppress(OSError):
            group.mkdir()
            if (group / limit).is_file():
                (group / "cgroup.procs").write_text(str(pid))
                return group / limit
            group.rmdir()
    pytest.skip("no memory cgroup can be made here: out of memory is tried by RLIMIT_AS alone")


@pytest.mark.parametrize("round", range(ROUNDS))
def test_the_kernel_kills_it(stack: Stack, recovery: Note, round: int) -> None:
    stack.stages.order("step_begins@5", "wait")
    run_id = stack.client.start_run()
    hit = stack.stages.wait("step_begins@5")
    limit = limited_group(hit.pid)
    try:
        moment = time.monotonic()
        # What it holds already counts elsewhere; the next pages that it touches are too many.
        limit.write_text(str(64 * KIB))
        hit.release()
        stack.client.wait(run_id, lambda run: run["attempt"] == 2)
        recovery("F3 cgroup", time.monotonic() - moment)
        stack.client.wait_end(run_id)
    finally:
        limit.parent.rmdir()
    assert stack.services[WORKER].running
