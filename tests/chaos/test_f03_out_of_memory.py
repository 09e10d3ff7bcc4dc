"""F3: memory runs out under a training child: it alone goes, its worker and the next run live."""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.chaos.client import ENDED
from tests.chaos.stack import Stack, trainer
from tests.chaos.times import ROUNDS

pytestmark = [pytest.mark.timeout(600), pytest.mark.chaos]

WORKER = trainer(1)
MIB = 2**20
SECONDS = 15.0
CGROUP = Path("/sys/fs/cgroup")
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


@contextmanager
def memory_group(pid: int) -> Iterator[Path]:
    """A cgroup of its own for a process, where this machine lets us make one."""
    group = CGROUP / f"genplat-chaos-{pid}"
    try:
        group.mkdir()
        (group / "memory.max").touch()
        (group / "cgroup.procs").write_text(str(pid))
        assert (group / "memory.current").is_file()
    except (OSError, AssertionError) as error:
        with suppress(OSError):
            group.rmdir()
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield group
    with suppress(OSError):
        group.rmdir()


@pytest.mark.parametrize("round", range(ROUNDS))
def test_the_kernel_kills_it(stack: Stack, recovery: Note, round: int) -> None:
    stack.stages.order("step_begins@5", "wait")
    run_id = stack.client.start_run()
    hit = stack.stages.wait("step_begins@5")
    with memory_group(hit.pid) as group:
        moment = time.monotonic()
        (group / "memory.swap.max").write_text("0")
        (group / "memory.max").write_text(str(MIB))
        hit.release()
        stack.client.wait(run_id, lambda run: run["attempt"] == 2)
        recovery("F3 cgroup", time.monotonic() - moment)
    stack.client.wait_end(run_id)
    assert stack.services[WORKER].running
