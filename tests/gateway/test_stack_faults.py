"""The real platform under faults: a worker that is killed, a Redis that is emptied."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from gateway.launcher.lock import LOCK_FILE
from gateway.launcher.processes import descendants
from tests.e2e.stack import ADMIN_KEY, running_stack
from tests.trainer_service.tiny import TINY_MODEL

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

# A tenth of the usual times, so that nobody waits for silence to be noticed.
SHORT = {
    "GENPLAT_HEARTBEAT_SECONDS": "0.5",
    "GENPLAT_RUN_LOST_SECONDS": "3",
    "GENPLAT_RECONCILE_SECONDS": "1",
    "GENPLAT_DEAD_MAN_SECONDS": "2",
}


@dataclass
class Platform:
    """A client of the platform, and its insides."""

    http: httpx.Client
    folder: Path
    process_id: int
    dataset_id: str = ""

    def start_run(self, *, steps: int, save_steps: int) -> str:
        spec = {
            "base_model": TINY_MODEL,
            "dataset_id": self.dataset_id,
            "validation_split": 0,
            "max_steps": steps,
            "save_steps": save_steps,
        }
        return str(self.post("/api/runs", json=spec)["id"])

    def post(self, path: str, **content: Any) -> dict[str, Any]:
        answer = self.http.post(path, **content)
        assert answer.is_success, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def run(self, run_id: str) -> dict[str, Any]:
        body: dict[str, Any] = self.http.get(f"/api/runs/{run_id}").json()
        return body

    def log(self, run_id: str) -> list[str]:
        lines = self.http.get(f"/api/runs/{run_id}/log").json()["data"]
        return [line["message"] for line in lines]

    def wait(self, run_id: str, ready: Callable[[dict[str, Any]], bool], seconds: float) -> float:
        """Until the run is as wanted; the seconds it took."""
        begun = time.monotonic()
        while not ready(state := self.run(run_id)):
            spent = time.monotonic() - begun
            assert spent < seconds, (state, self.log(run_id), self.last_words())
            time.sleep(0.1)
        return time.monotonic() - begun

    def last_words(self) -> str:
        return (self.folder / "logs" / "genplat.log").read_text()[-4000:]

    def kill_trainer(self) -> None:
        for process_id, _ in descendants([self.process_id]):
            command = Path(f"/proc/{process_id}/cmdline").read_bytes()
            if b"\0trainer_service.app\0" in command:
                os.kill(process_id, signal.SIGKILL)
                return
        raise AssertionError("no trainer runs")

    def empty_redis(self) -> None:
        url = json.loads((self.folder / LOCK_FILE).read_text())["queue_admin_url"]
        with redis.Redis.from_url(url) as admin:
            assert admin.flushall()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("faults") / "data"
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    with (
        running_stack(folder, **SHORT) as stack,
        httpx.Client(base_url=stack.url, headers=headers, timeout=30) as http,
    ):
        platform = Platform(http, folder, stack.process_id)
        rows = "".join(f"question {number},answer {number}\n" for number in range(40))
        made = platform.post(
            "/api/datasets",
            data={"name": "pairs"},
            files={"file": ("a.csv", "text,target\n" + rows)},
        )
        platform.dataset_id = made["id"]
        yield platform


def ended(run: dict[str, Any]) -> bool:
    return run["status"] in ("succeeded", "failed", "cancelled")


def check_success(platform: Platform, run_id: str, *, attempt: int, steps: int) -> None:
    run, log = platform.run(run_id), platform.log(run_id)
    assert (run["status"], run["attempt"], run["step"]) == ("succeeded", attempt, steps), log
    assert [line.startswith("Succeeded") for line in log].count(True) == 1
    models = platform.http.get("/v1/models").json()["data"]
    assert [model["id"] for model in models].count(run["fine_tuned_model"]) == 1
    metrics = platform.http.get(f"/api/runs/{run_id}/metrics").json()["data"]
    assert [row["step"] for row in metrics] == list(range(1, steps + 1))


def kill_and_recover(platform: Platform, *, steps: int, seconds: float) -> float:
    """Kill the worker behind a checkpoint; the seconds until its run trains again."""
    run_id = platform.start_run(steps=steps, save_steps=20)
    platform.wait(run_id, lambda run: run["step"] >= 25, 90)
    platform.kill_trainer()
    spent = platform.wait(
        run_id, lambda run: run["attempt"] == 2 and run["status"] == "running", seconds
    )
    platform.wait(run_id, ended, 120)
    check_success(platform, run_id, attempt=2, steps=steps)
    assert any(line.startswith("Goes on from the checkpoint") for line in platform.log(run_id))
    return spent


def lose_redis(platform: Platform, *, steps: int) -> None:
    """Empty Redis while one run trains and one waits; both come to their end."""
    first = platform.start_run(steps=steps, save_steps=steps)
    second = platform.start_run(steps=5, save_steps=5)
    platform.wait(first, lambda run: run["step"] >= 5, 90)
    assert platform.run(second)["status"] == "queued"
    platform.empty_redis()
    for run_id, count in ((first, steps), (second, 5)):
        platform.wait(run_id, ended, 120)
        check_success(platform, run_id, attempt=1, steps=count)


def test_a_run_whose_worker_is_killed_goes_on_and_ends_once(platform: Platform) -> None:
    kill_and_recover(platform, steps=300, seconds=30)


def test_an_emptied_redis_loses_no_run(platform: Platform) -> None:
    lose_redis(platform, steps=300)
