"""Real child processes: restart, back-off, stopping, and that none is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.launcher.logs import MergedLog
from gateway.launcher.problems import LaunchProblem
from gateway.launcher.processes import descendants
from gateway.launcher.supervisor import Patience, Program, Supervisor

QUICK = Patience(first_wait=0.05, longest_wait=0.2, healthy=5, start=10, grace=1, last_grace=1)
SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP
# Leaves its parent's process group, as a training child does.
WITH_CHILD = (
    "import subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
    " start_new_session=True); print(child.pid, flush=True); time.sleep(600)"
)


def program(
    code: str, *, is_ready: Callable[[], bool] = lambda: True, stop_last: bool = False
) -> Program:
    return Program(
        name="child",
        command=(sys.executable, "-c", code),
        environment=dict(os.environ),
        is_ready=is_ready,
        stop_last=stop_last,
    )


@pytest.fixture
def log(tmp_path: Path) -> Iterator[MergedLog]:
    log = MergedLog(tmp_path, None)
    yield log
    log.close()


@pytest.fixture
def supervisor(log: MergedLog) -> Iterator[Supervisor]:
    supervisor = Supervisor(log, QUICK)
    yield supervisor
    supervisor.request_stop()
    supervisor.request_stop()
    supervisor.stop()


def alive(process_id: int) -> bool:
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def logged(log: MergedLog, text: str) -> Callable[[], bool]:
    return lambda: log.path.exists() and text in log.path.read_text()


def test_start_waits_until_a_program_is_ready(supervisor: Supervisor, log: MergedLog) -> None:
    supervisor.start([program(SLEEP, is_ready=logged(log, "up"))])
    assert "child     | up" in log.path.read_text()


def test_what_dies_is_started_again(supervisor: Supervisor, log: MergedLog) -> None:
    supervisor.start([program(SLEEP)])
    (first,) = supervisor.process_ids
    os.kill(first, signal.SIGKILL)

    def another() -> bool:
        supervisor.tick()
        return bool(supervisor.process_ids - {first})

    eventually(another)
    assert "child was ended by SIGKILL; again in 0.05 s" in log.path.read_text()


def test_restarts_wait_longer_each_time_up_to_a_limit(
    supervisor: Supervisor, log: MergedLog
) -> None:
    supervisor.start([program("raise SystemExit(3)")])

    def five_deaths() -> bool:
        supervisor.tick()
        return log.path.exists() and log.path.read_text().count("ended with code 3") >= 5

    eventually(five_deaths)
    waits = [line.split("again in ")[1] for line in log.path.read_text().splitlines()]
    assert waits[:5] == ["0.05 s", "0.1 s", "0.2 s", "0.2 s", "0.2 s"]


def test_a_long_life_resets_the_wait(log: MergedLog) -> None:
    supervisor = Supervisor(log, Patience(first_wait=0.05, longest_wait=1, healthy=0.0))
    supervisor.start([program("raise SystemExit(3)")])

    def three_deaths() -> bool:
        supervisor.tick()
        return log.path.exists() and log.path.read_text().count("ended with code 3") >= 3

    eventually(three_deaths)
    supervisor.stop()
    assert log.path.read_text().count("again in 0.05 s") >= 3


def test_a_program_that_cannot_start_is_given_up_with_its_last_lines(
    supervisor: Supervisor,
) -> None:
    broken = program("raise SystemExit('no such model')", is_ready=lambda: False)
    with pytest.raises(LaunchProblem, match=r"child ended 3 times(.|\n)*no such model") as caught:
        supervisor.start([broken])
    assert caught.value.exit_code == 1


def test_a_program_that_never_gets_ready_is_given_up(log: MergedLog) -> None:
    supervisor = Supervisor(log, Patience(start=0.3, grace=1))
    with pytest.raises(LaunchProblem, match="child is not ready yet"):
        supervisor.start([program(SLEEP, is_ready=lambda: False)])
    supervisor.stop()


def test_stop_ends_everything_and_the_marked_ones_last(
    supervisor: Supervisor, log: MergedLog
) -> None:
    says = "import signal,sys,time;signal.signal(15,lambda *_:(print('{0} ends',flush=True),"
    says += "sys.exit()));print('{0} up',flush=True);time.sleep(600)"
    supervisor.start(
        [
            program(says.format("queue"), is_ready=logged(log, "queue up"), stop_last=True),
            program(says.format("service"), is_ready=logged(log, "service up")),
        ]
    )
    ids = supervisor.process_ids
    supervisor.stop()
    assert not any(alive(process_id) for process_id in ids)
    eventually(logged(log, "queue ends"))
    text = log.path.read_text()
    assert text.index("service ends") < text.index("queue ends")


def test_stop_kills_what_does_not_listen(supervisor: Supervisor, log: MergedLog) -> None:
    supervisor.start([program(STUBBORN, is_ready=logged(log, "up"))])
    (process_id,) = supervisor.process_ids
    begun = time.monotonic()
    supervisor.stop()
    assert not alive(process_id)
    assert 0.9 < time.monotonic() - begun < 3


def test_a_second_request_kills_at_once(log: MergedLog) -> None:
    supervisor = Supervisor(log, Patience(grace=60))
    supervisor.start([program(STUBBORN, is_ready=logged(log, "up"))])
    supervisor.request_stop()
    threading.Timer(0.2, supervisor.request_stop).start()
    begun = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - begun < 5


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_grandchild_is_left_behind(supervisor: Supervisor, log: MergedLog) -> None:
    supervisor.start([program(WITH_CHILD, is_ready=lambda: log.path.exists())])
    ((grandchild, _),) = descendants(supervisor.process_ids)
    assert alive(grandchild)
    supervisor.stop()
    eventually(lambda: not alive(grandchild), 2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    code = f"""
import os, sys
from pathlib import Path
from gateway.launcher.logs import MergedLog
from gateway.launcher.supervisor import Program, Supervisor
supervisor = Supervisor(MergedLog(Path({str(tmp_path)!r}), None))
supervisor.start([Program("child", (sys.executable, "-c", {SLEEP!r}), os.environ, lambda: True)])
print(*supervisor.process_ids, flush=True)
supervisor.watch()
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout as output:
        child = int(output.readline())
        assert alive(child)
        parent.kill()
        parent.wait()
        eventually(lambda: not alive(child), 2)
