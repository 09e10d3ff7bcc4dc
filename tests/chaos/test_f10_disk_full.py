"""F10: the disk of 64 MiB that holds all data runs full: what does not fit is refused or fails by
name, what was there stays whole, and all goes on when there is room again."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gateway.disk_reserve import RESERVE_FILE
from shared.storage import manifest_problem
from tests.chaos.client import CSV, ENDED
from tests.chaos.invariants import check
from tests.chaos.stack import Stack, running_stack
from tests.chaos.times import ROUNDS
from tests.trainer_service.runs import wait_for

pytestmark = [pytest.mark.timeout(600), pytest.mark.chaos]

MIB = 2**20
RESERVE = 4 * MIB
MANY = 400
Note = Callable[[str, float], None]
# 6 MiB of rows.
LARGE = CSV + b"".join(b"question %020d,answer of some length\n" % n for n in range(120_000))


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own."""
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "genplat-chaos", os.fspath(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here ({done.stderr.strip()}): run as root")
    yield folder
    subprocess.run(["umount", "--lazy", os.fspath(folder)], check=True)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with small_disk(tmp_path_factory.mktemp("disk")) as folder:
        yield folder


@pytest.fixture(scope="module")
def small_stack(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("chaos")
    (disk / "logs").mkdir()
    (folder / "logs").symlink_to(disk / "logs")
    with running_stack(folder, data=disk / "data") as stack:
        yield stack


class Disk:
    """Takes room away and gives it back."""

    def __init__(self, folder: Path) -> None:
        self.ballast = folder / "ballast"

    def fill(self, leave: int = 0) -> None:
        """All but ``leave`` bytes."""
        with self.ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(64 * 1024))
        with self.ballast.open("r+b") as file:
            file.truncate(max(0, self.ballast.stat().st_size - leave))

    def free(self) -> None:
        self.ballast.unlink(missing_ok=True)


@pytest.fixture
def full(disk: Path) -> Iterator[Disk]:
    made = Disk(disk)
    yield made
    made.free()


@pytest.fixture
def stack(small_stack: Stack, full: Disk) -> Iterator[Stack]:
    yield small_stack
    full.free()
    small_stack.rest()
    check(small_stack)


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize(
    "leave", [MIB, len(LARGE) + MIB], ids=["no room for the file", "no room for its records"]
)
def test_an_upload(stack: Stack, full: Disk, leave: int, round: int) -> None:
    name = f"large-{time.monotonic_ns()}"
    full.fill(leave)
    answer = stack.client.upload(name, LARGE)
    assert answer.status_code == 507, answer.text
    assert answer.json()["error"]["code"] == "disk_full"
    full.free()
    made = stack.client.upload(name, LARGE)
    assert made.status_code == 201
    stack.client.http.delete(f"/api/datasets/{made.json()['id']}").raise_for_status()


# Where it runs full, and the newest checkpoint that is there by then.
STAGES = {"checkpoint_half@20": 10, "checkpoint_saved@40": 40, "step_done@13": 10}


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize("stage", STAGES, ids=["checkpoint", "publish", "events.jsonl"])
def test_a_run(stack: Stack, full: Disk, recovery: Note, stage: str, round: int) -> None:
    stack.stages.order(stage, "wait")
    run_id = stack.client.start_run()
    hit = stack.stages.wait(stage)
    checkpoint = stack.storage.run_checkpoints(run_id) / f"step-{STAGES[stage]}"
    full.fill()
    hit.release()
    while stack.children():
        time.sleep(0.1)
    assert manifest_problem(checkpoint) is None
    # The worker lives, and the gateway still answers what needs no room.
    assert stack.client.run(run_id)["id"] == run_id
    full.free()
    moment = time.monotonic()
    run = stack.client.wait(run_id, lambda run: run["status"] in ENDED)
    recovery(f"F10 {stage}", time.monotonic() - moment)
    assert run["error"]["code"] == "disk_full", stack.client.log(run_id)
    assert manifest_problem(checkpoint) is None
    stack.client.wait_end(stack.client.start_run(max_steps=2))


@pytest.mark.parametrize("round", range(ROUNDS))
def test_the_database_and_the_logs(stack: Stack, full: Disk, round: int) -> None:
    """Nothing can be written at all, for a while."""
    full.fill()
    statuses: set[int] = set()
    # What still fits into the write-ahead log is taken.
    for _ in range(MANY):
        statuses.add(stack.client.submit(max_steps=1).status_code)
        if statuses & {503, 507}:
            break
    assert statuses <= {202, 503, 507} and statuses & {503, 507}, statuses
    assert stack.client.http.get("/api/runs").status_code == 200
    assert all(service.running for service in stack.services.values())
    full.free()
    for run in stack.history.all("run"):
        if stack.client.run(run["id"])["status"] == "queued":
            stack.client.cancel(run["id"])
    stack.client.wait_end(stack.client.start_run(max_steps=2))


@pytest.mark.parametrize("round", range(ROUNDS))
def test_room_that_was_kept_for_the_database(
    tmp_path_factory: pytest.TempPathFactory, round: int
) -> None:
    """As long as the disk is full, runs are taken, and end in the database as they end."""
    folder = tmp_path_factory.mktemp("chaos")
    with (
        small_disk(tmp_path_factory.mktemp("disk")) as mounted,
        running_stack(
            folder, trainers=0, data=mounted / "data", disk_reserve_bytes=str(RESERVE)
        ) as stack,
    ):
        reserve = mounted / "data" / RESERVE_FILE
        wait_for(reserve.exists)
        full = Disk(mounted)
        full.fill()
        # What still fits into the write-ahead log is taken before.
        for _ in range(MANY):
            if not reserve.exists():
                break
            stack.client.submit(max_steps=1)
        assert not reserve.exists()
        late = [stack.client.submit(max_steps=1) for _ in range(10)]
        assert {answer.status_code for answer in late} == {202}
        for answer in late:
            stack.client.cancel(answer.json()["id"])
            assert stack.client.run(answer.json()["id"])["status"] == "cancelled"
        full.free()
        wait_for(reserve.exists)
        check(stack)
