"""F22: the SQLite file is locked by somebody else, loses its side files, may not be written, is
cut short."""

import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.chaos.client import STEPS
from tests.chaos.services import GATEWAY
from tests.chaos.stack import Stack, running_stack
from tests.chaos.times import ROUNDS

pytestmark = [pytest.mark.timeout(600), pytest.mark.chaos]

# Less and more than a writer waits.
SHORT, LONG = 4.0, 10.0


@contextmanager
def locked(stack: Stack, seconds: float) -> Iterator[None]:
    """The write lock in somebody else's hands, from now on."""
    holding = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(stack.database, timeout=30)) as connection:
            connection.isolation_level = None
            connection.execute("BEGIN IMMEDIATE")
            holding.set()
            time.sleep(seconds)
            connection.execute("ROLLBACK")

    holder = threading.Thread(target=hold)
    holder.start()
    holding.wait(60)
    yield
    holder.join()


@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_short_lock_is_waited_for(stack: Stack, round: int) -> None:
    with locked(stack, SHORT):
        run_id = stack.client.start_run(max_steps=2)
    stack.client.wait_end(run_id)


@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_long_lock_is_told(stack: Stack, round: int) -> None:
    stack.pace(0.5)
    run_id = stack.client.start_run()
    stack.client.wait_step(run_id, 3)
    with locked(stack, LONG):
        since = time.monotonic()
        answer = stack.client.submit(max_steps=2)
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        assert stack.client.http.get("/api/runs").status_code == 200
        # Training goes on; what it tells waits in the stream.
        stack.stages.wait_passed("step_begins", since + LONG / 2)
    run = stack.client.wait_end(run_id)
    assert (run["attempt"], run["step"]) == (1, STEPS)


def stop(stack: Stack, how: signal.Signals) -> None:
    stack.signal(GATEWAY, how)
    stack.wait_end(GATEWAY)


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize(
    ("ends", "how"),
    [
        (("-shm",), signal.SIGKILL),
        (("-shm", "-wal"), signal.SIGTERM),
    ],
    ids=["shm after a kill", "both after a stop"],
)
def test_side_files_that_vanish_cost_nothing(
    stack: Stack, ends: tuple[str, ...], how: signal.Signals, round: int
) -> None:
    run_id = stack.client.start_run(max_steps=2)
    stack.client.wait_end(run_id)
    stop(stack, how)
    if how == signal.SIGTERM:
        # Whoever closes a database last tidies up. That may have been the monitor's look, which
        # only reads.
        integrity(stack)
    for end in ends:
        stack.database.with_name(stack.database.name + end).unlink(missing_ok=True)
    stack.start(GATEWAY)
    assert stack.client.run(run_id)["status"] == "succeeded"
    stack.client.wait_end(stack.client.start_run(max_steps=2))


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[Stack]:
    """A stack whose database does not survive: what must hold stands in the scenario."""
    with running_stack(tmp_path / "stack") as stack:
        yield stack


def integrity(stack: Stack) -> str:
    with closing(sqlite3.connect(stack.database, timeout=10)) as connection:
        (said,) = connection.execute("PRAGMA integrity_check").fetchone()
    return str(said)


@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_log_that_is_deleted_after_a_kill(doomed: Stack, round: int) -> None:
    """What was in it alone is gone; the rest is whole, and all that is said is true."""
    doomed.client.wait_end(doomed.client.start_run(max_steps=2))
    doomed.kill(GATEWAY)
    doomed.database.with_name("genplat.db-wal").unlink()
    doomed.services[GATEWAY].process = doomed._spawn(doomed.services[GATEWAY])
    try:
        doomed.wait_ready(GATEWAY, seconds=30)
    except AssertionError:
        assert "damaged" in doomed.last_words(GATEWAY)
        assert "Traceback" not in doomed.last_words(GATEWAY)
    else:
        assert integrity(doomed) == "ok"


@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_file_that_was_cut_short_is_refused(doomed: Stack, round: int) -> None:
    doomed.client.start_run(max_steps=1)
    assert doomed.terminate(GATEWAY) in (0, -signal.SIGTERM)
    os.truncate(doomed.database, doomed.database.stat().st_size // 2 // 4096 * 4096)
    code, said = start_in_vain(doomed)
    assert code != 0
    assert "damaged" in said and "backup" in said


def start_in_vain(stack: Stack) -> tuple[int, str]:
    """The gateway's exit code and last words."""
    already = len(stack.last_words(GATEWAY))
    service = stack.services[GATEWAY]
    service.process = stack._spawn(service)
    code = stack.wait_end(GATEWAY, 60)
    said = stack.last_words(GATEWAY)[already:]
    assert "Traceback" not in said
    return code, said


@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_file_that_may_not_be_written_is_refused(doomed: Stack, round: int) -> None:
    assert doomed.terminate(GATEWAY) in (0, -signal.SIGTERM)
    data = os.fspath(doomed.storage.root)
    bound = subprocess.run(["mount", "--bind", data, data], capture_output=True, text=True)
    if bound.returncode != 0:
        pytest.skip(f"nothing can be mounted here ({bound.stderr.strip()}): run as root")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", data], check=True)
        code, said = start_in_vain(doomed)
    finally:
        subprocess.run(["umount", "--lazy", data], check=True)
    assert code != 0
    assert "cannot be" in said
    doomed.start(GATEWAY)
