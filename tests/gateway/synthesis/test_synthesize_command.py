"""`genplat synthesize` as a person types it, over a live gateway."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gateway import cli
from gateway.settings import GatewaySettings
from gateway.synthesis.pairs import Pair
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, chat, live_gateway
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.synthesis.writing import rows_text, seed_rows, sentence, writes


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        live.inference.says = lambda body: writes(body) if "seed" in body else "Hello"
        # Loaded: a first request is asked twice.
        chat(live, BUNDLED_MODEL).raise_for_status()
        live.inference.asked.clear()
        yield live


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rows = [{"prompt": one.prompt, "completion": one.completion} for one in seed_rows()]
    (tmp_path / "seed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "synthesize.yaml"
    path.write_text(
        f"dataset: seed.jsonl\nmodel: {BUNDLED_MODEL}\noutput_dir: out\ncount: 12\nper_request: 2\n"
    )
    return path


def arguments(live: Live, *more: object) -> list[str]:
    root = live.services.settings.root
    given = ["--url", live.url, "--key", ADMIN_KEY, "--data-dir", root, *more]
    return ["synthesize", *map(str, given)]


def synthesize(live: Live, *more: object) -> int:
    return cli.main(arguments(live, *more))


def results(folder: Path, name: str = "seed_synthetic") -> list[dict[str, str]]:
    lines = (folder / f"{name}.jsonl").read_text().splitlines()
    found: list[dict[str, str]] = [json.loads(line) for line in lines]
    assert pq.read_table(folder / f"{name}.parquet").to_pylist() == found
    return found


def test_rows_and_a_report_of_what_was_dropped(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthesize(live, config) == 0
    found = results(config.parent / "out")
    assert len(found) == 12 and all(list(row) == ["prompt", "completion"] for row in found)
    report = json.loads((config.parent / "out" / "seed_synthetic.report.json").read_text())
    assert (report["kept"], report["dropped"]) == (12, len(report["dropped_rows"]))
    assert report["derived_from"]["model"] == BUNDLED_MODEL
    duplicate = next(row for row in report["dropped_rows"] if row["reason"] == "duplicate")
    assert duplicate["matched"]["where"] in ("seed.jsonl", "generated")
    said = capsys.readouterr().out
    assert "12 of 12 rows are kept" in said and "A row that is there already" in said
    # A second time nothing is asked; other wishes need another name.
    asked = len(live.inference.asked)
    assert synthesize(live, config) == 0
    assert len(live.inference.asked) == asked and results(config.parent / "out") == found
    assert synthesize(live, config, "--temperature", "0.1") == 1
    assert "temperature changed since" in capsys.readouterr().err


def test_keys_are_flags_and_machines_are_told_too(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--count", 3, "--include_seed", "true", "--name=n", "--judge", BUNDLED_MODEL, "--json")
    assert synthesize(live, config, *more, "--leakage", config.parent / "seed.jsonl") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["event"] for one in events} == {"progress", "synthesis"}
    last = events[-1]["data"]
    assert (last["kept"], last["seed_rows"], last["jsonl"]) == (
        3,
        8,
        str(config.parent / "out" / "n.jsonl"),
    )
    assert last["reasons"]["leakage"] >= 1
    assert [row["prompt"] for row in results(config.parent / "out", "n")[:8]] == [
        one.prompt for one in seed_rows()
    ]


def test_files_of_one_name_guard_each_their_own(live: Live, config: Path) -> None:
    for number in (0, 1):
        folder = config.parent / str(number)
        folder.mkdir()
        hidden = {"prompt": f"Hidden {number}: {sentence(f'h{number}', 14)}?", "completion": "x"}
        (folder / "test.jsonl").write_text(json.dumps(hidden) + "\n")

    def leaks(body: dict[str, Any]) -> str:
        shown = [Pair(f"{sentence(f'h{number}', 14)}?", "Because.") for number in (0, 1)]
        return rows_text(shown) + "\n" + writes(body)

    live.inference.says = lambda body: leaks(body) if "seed" in body else "Hello"
    files = json.dumps([f"{number}/test.jsonl" for number in (0, 1)])
    config.write_text(f"{config.read_text()}leakage: {files}\nmin_characters: 1\n")
    assert synthesize(live, config, "--count", 2, "--name", "guarded") == 0
    report = json.loads((config.parent / "out" / "guarded.report.json").read_text())
    leaked = [row for row in report["dropped_rows"] if row["reason"] == "leakage"]
    assert {row["matched"]["where"] for row in leaked} == {
        "test.jsonl",
        str(config.parent / "1" / "test.jsonl"),
    }


def test_aimed_at_failures(live: Live, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--failures", config.parent / "seed.jsonl", "--clusters", 2, "--name", "aimed")
    assert synthesize(live, config, *more) == 0
    assert capsys.readouterr().out.count("Aimed at") == 2
    report = json.loads((config.parent / "out" / "aimed.report.json").read_text())
    assert sum(report["by_aim"].values()) == 12


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--conut", "3"), "Did you mean --count?"),
        (("--count", "many"), "count:"),
        (("--dataset", "nowhere.csv"), "is neither a file nor"),
        (("--clusters", "99"), "clusters must be"),
        (("--output-dir", __file__), "output_dir:"),
    ],
)
def test_what_is_wrong_is_said(
    live: Live,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    said: str,
) -> None:
    try:
        assert synthesize(live, config, *more) == 1
    except SystemExit as error:
        assert error.code == 2
    assert said in capsys.readouterr().err


def test_killed_three_times_nothing_is_asked_twice_that_was_written_down(
    live: Live, config: Path
) -> None:
    live.inference.capacity = 2
    slow = live.inference.says
    assert slow is not None
    live.inference.says = lambda body: (time.sleep(0.05), slow(body))[1]
    command = [sys.executable, "-m", "gateway.cli", *arguments(live, config, "--count", 60)]
    for _ in range(3):
        before = len(live.inference.asked)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while len(live.inference.asked) < before + random.randint(3, 6):
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert len(results(config.parent / "out")) == 60
    counts = Counter(body["seed"] for body in live.inference.asked)
    # Two are under way at a time: those may be asked again.
    assert sum(counts.values()) - len(counts) <= 2 * 3
