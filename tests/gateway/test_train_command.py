"""`genplat train` as a person types it, over a live gateway and a worker that tells of the run."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from gateway.launcher.lock import StackLock
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from shared.run_events import Finished, Logged, Measured, Started
from shared.storage import Storage
from tests.gateway.api.fine_tuning import tell
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.parts import success, until_true
from tests.trainer_service.tiny import TINY_MODEL, prepare_tiny_model

ROWS = "".join(f'{{"prompt": "p{number}", "completion": "c"}}\n' for number in range(4))


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    path = tmp_path / "train.yaml"
    path.write_text(f"base_model: {BUNDLED_MODEL}\ndataset: rows.jsonl\nsuffix: mine\n")
    return path


def train(live: Live, *arguments: object) -> int:
    return cli.main(["train", "--url", live.url, "--key", ADMIN_KEY, *map(str, arguments)])


def runs(live: Live) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = live.http.get("/api/runs").json()["data"]
    return found


def datasets(live: Live) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = live.http.get("/api/datasets").json()["data"]
    return found


class Worker(threading.Thread):
    """Waits for a run, and does with it what it is told to."""

    def __init__(self, live: Live, work: Callable[[str], object]) -> None:
        super().__init__(daemon=True)
        self.live, self.work = live, work
        self.start()

    def run(self) -> None:
        until_true(lambda: bool(runs(self.live)))
        self.work(runs(self.live)[0]["id"])


def learn(live: Live, end: Callable[[str], Finished]) -> Callable[[str], object]:
    def work(run_id: str) -> None:
        step = Measured(step=1, total_steps=1, epoch=1, loss=0.5)
        tell(live, run_id, Started(worker="w"), step, Logged(message="Nearly there."), end(run_id))

    return work


def test_a_file_is_uploaded_and_its_run_followed_to_the_end(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = Worker(live, learn(live, lambda run: success(live.services.storage, run)))
    assert train(live, config, "--learning-rate", "1e-3", "--name", "my rows") == 0
    worker.join()
    [run] = runs(live)
    assert run["spec"]["learning_rate"] == 1e-3 and run["spec"]["suffix"] == "mine"
    newest = datasets(live)[0]
    assert (newest["id"], newest["name"], newest["rows"]) == (run["dataset_id"], "my rows", 4)
    said = capsys.readouterr().out
    for part in (f"/runs/{run['id']}", "Step 1 of 1: loss 0.5000.", "Nearly there."):
        assert part in said
    assert said.splitlines()[-1].startswith(f"Fine-tuned {run['fine_tuned_model']}")


@pytest.mark.parametrize(("status", "code"), [("failed", 1), ("cancelled", 3)])
def test_the_exit_code_tells_how_it_ended(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str], status: Any, code: int
) -> None:
    why = "The disk is full." if status == "failed" else None
    worker = Worker(live, learn(live, lambda _: Finished(status=status, message=why)))
    assert train(live, config) == code
    worker.join()
    assert f"is {status}{f': {why}' if why else '.'}" in capsys.readouterr().out


def test_for_machines(live: Live, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worker = Worker(live, learn(live, lambda run: success(live.services.storage, run)))
    assert train(live, config, "--json") == 0
    worker.join()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["event"] for line in lines} == {"state", "metrics", "log", "run"}
    assert (lines[-1]["event"], lines[-1]["data"]["status"]) == ("run", "succeeded")


def test_who_does_not_wait_gets_the_run(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(live, config, "--detach", "--json") == 0
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["data"]["id"] == runs(live)[0]["id"]
    assert train(live, config, "--detach") == 0
    assert [run["status"] for run in runs(live)] == ["queued", "queued"]


def test_the_same_file_is_uploaded_once(live: Live, config: Path) -> None:
    assert [train(live, config, "--detach") for _ in range(2)] == [0, 0]
    assert len(datasets(live)) == 2  # beside the one that every test has
    (config.parent / "rows.jsonl").write_text(ROWS * 2)
    assert train(live, config, "--detach") == 0
    assert [dataset["version"] for dataset in datasets(live)] == [2, 1, 1]
    assert runs(live)[0]["dataset_id"] == datasets(live)[0]["id"]


def test_a_dataset_may_be_named(live: Live, config: Path) -> None:
    assert train(live, config, "--detach", "--name", "mine") == 0
    newest = datasets(live)[0]["id"]
    for name in ("mine", newest):
        assert train(live, config, "--detach", "--dataset", name) == 0
        assert runs(live)[0]["dataset_id"] == newest
    assert train(live, config, "--detach", "--validation-dataset", "ds_test") == 0
    assert runs(live)[0]["spec"]["validation_dataset_id"] == "ds_test"


def test_whoever_leaves_leaves_the_run_running(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(run_id: str) -> None:
        tell(live, run_id, Started(worker="w"), Logged(message="Nearly there."))
        until_true(lambda: live.services.feed._streams["admin"] == 1)
        os.kill(os.getpid(), signal.SIGINT)

    worker = Worker(live, interrupt)
    assert train(live, config) == 130
    worker.join()
    [run] = runs(live)
    assert (run["status"], run["cancel_requested_at"]) == ("running", None)
    said = capsys.readouterr().out
    assert "The run goes on." in said and f"/api/runs/{run['id']}/cancel" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dataset", "nobody"), "neither a file nor the id or name of a dataset"),
        (("--dataset", "ds_nobody"), "ds_nobody"),
        (("--base-model", "x/y"), "x/y"),
        (("--lora-r", "0"), "lora_r"),
        (("--key", "gp-wrong"), "not valid"),
        (("--key", "schlüssel"), "Give a key"),
        (("--url", "localhost:8000"), "http://"),
        (("--url", "http://"), "no address"),
        (("--url", "http://here:port"), "no address"),
        (("--url", "http://127.0.0.1:9"), "got no answer"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    live: Live,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    assert train(live, config, *arguments) != 0
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("genplat: ") and said in line
    assert runs(live) == []


def test_a_wrong_spec_uploads_nothing(live: Live, config: Path) -> None:
    before = datasets(live)
    assert train(live, config, "--learning-rate", "10") == 1
    assert datasets(live) == before


def test_the_platform_that_runs_here_is_found(live: Live, config: Path) -> None:
    root = live.services.settings.root
    here = ["train", str(config), "--detach", "--data-dir", str(root)]
    assert cli.main(here) == 1
    lock = StackLock(root)
    lock.take()
    lock.note(pid=os.getpid(), url=live.url)
    try:
        assert cli.main(here) == 0
    finally:
        lock.release()
    assert len(runs(live)) == 1


def test_the_platform_may_be_named_by_the_environment(
    live: Live, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENPLAT_URL", f"{live.url}/")
    assert cli.main(["train", str(config), "--detach"]) == 1
    monkeypatch.setenv("GENPLAT_API_KEY", ADMIN_KEY)
    assert cli.main(["train", str(config), "--detach"]) == 0


@pytest.mark.parametrize(
    ("flag", "meant"), [("--lr=1", "--learning-rate"), ("--lora_rank", "--lora-r")]
)
def test_a_flag_that_means_nothing(
    capsys: pytest.CaptureFixture[str], flag: str, meant: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", flag])
    assert ended.value.code == 2
    assert f"Did you mean {meant}?" in capsys.readouterr().err


@pytest.mark.slow
def test_training_right_here(
    tmp_path: Path, config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare_tiny_model(Storage(tmp_path / "data"))
    arguments = ["train", str(config), "--local", "--base-model", TINY_MODEL, "--max-steps", "2"]
    arguments += ["--validation-split", "0", "--data-dir", str(tmp_path / "data")]
    assert cli.main(arguments) == 1
    assert "output_dir" in capfd.readouterr().err
    assert cli.main([*arguments, "--output-dir", str(tmp_path / "out"), "--json"]) == 0
    assert (tmp_path / "out" / "result" / "adapter_config.json").is_file()
    [line] = capfd.readouterr().out.splitlines()
    assert json.loads(line) == {
        "event": "run",
        "data": {"status": "succeeded", "output_dir": str(tmp_path / "out")},
    }
