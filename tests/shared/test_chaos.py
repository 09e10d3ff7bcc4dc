"""Stages do what a test ordered, once, and nothing at all outside of tests."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import sys
from shared.chaos import stage
for about in sys.argv[1:]:
    try:
        stage("point", about)
    except OSError as error:
        print("error", error.errno)
    print("passed", about, flush=True)
"""


def pass_points(folder: Path, *about: str, testing: str = "1") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *about],
        env=os.environ | {"TESTING": testing, "CHAOS_STAGE": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> list[str]:
    return process.communicate(timeout=60)[0].splitlines()


def wait_for_hit(folder: Path, name: str) -> int:
    deadline = time.monotonic() + 60
    while not (folder / name).is_file() or not (text := (folder / name).read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(text)


def test_a_process_is_killed_where_it_is_ordered_and_nobody_after_it(tmp_path: Path) -> None:
    (tmp_path / "point@2").write_text("kill")
    first = pass_points(tmp_path, "1", "2", "3")
    assert output(first) == ["passed 1"]
    assert first.returncode == -signal.SIGKILL
    assert wait_for_hit(tmp_path, "point@2.hit") == first.pid
    second = pass_points(tmp_path, "1", "2", "3")
    assert output(second) == ["passed 1", "passed 2", "passed 3"]


def test_a_process_waits_until_it_may_go_on(tmp_path: Path) -> None:
    (tmp_path / "point").write_text("wait")
    process = pass_points(tmp_path, "1", "2")
    assert wait_for_hit(tmp_path, "point.hit") == process.pid
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    (tmp_path / "point.hit").unlink()
    assert output(process) == ["passed 1", "passed 2"]


def test_an_error_is_raised_once(tmp_path: Path) -> None:
    (tmp_path / "point").write_text("raise 28")
    assert output(pass_points(tmp_path, "1", "2")) == ["error 28", "passed 1", "passed 2"]


def test_each_pass_is_written_down(tmp_path: Path) -> None:
    (tmp_path / "point").write_text("pause 0.01")
    process = pass_points(tmp_path, "1", "2")
    assert output(process) == ["passed 1", "passed 2"]
    lines = [json.loads(line) for line in (tmp_path / "passed.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["about"], line["pid"]) for line in lines] == [
        ("point", "1", process.pid),
        ("point", "2", process.pid),
    ]


def test_without_testing_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / "point").write_text("kill")
    assert output(pass_points(tmp_path, "1", testing="")) == ["passed 1"]
    assert [path.name for path in tmp_path.iterdir()] == ["point"]
