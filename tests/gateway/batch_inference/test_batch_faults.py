"""Whatever ends `genplat batch`, the same command goes on; nothing is twice, nothing is missing."""

import json
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.gateway.api.live import Live
from tests.gateway.batch_inference.command_line import (
    ROWS,
    arguments,
    batch,
    journal_lines,
    prompts,
    results,
)
from tests.gateway.parts import until_true


def test_killed_three_times_nothing_is_twice_and_nothing_is_missing(
    live: Live, config: Path
) -> None:
    live.inference.seconds_a_word = 0.03
    chance = random.Random(1)
    command = [sys.executable, "-m", "gateway.cli", *arguments(live, config, "--concurrency", 2)]
    journal = config.parent / "out" / "rows.journal"
    written = [0]
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            # In the middle of its work: a few rows after it went on.
            until_true(lambda: journal_lines(journal) > written[-1] + 4)
            time.sleep(chance.uniform(0, 0.3))
            process.kill()
        written.append(journal_lines(journal))
    assert written[-1] < 1 + ROWS, "it was over before it was killed"
    # As a power cut may leave it.
    journal.write_bytes(journal.read_bytes() + b'{"row": 3, "te')
    live.inference.seconds_a_word = 0
    assert batch(live, config) == 0
    found = results(config.parent / "out")
    assert [row["candidate_responses"] for row in found] == [f"to p{n}" for n in range(ROWS)]
    entries = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    assert sorted(entry["row"] for entry in entries) == list(range(ROWS))
    # What was being answered when it was killed was asked again, and nothing else.
    assert sum(prompts(live).values()) <= ROWS + 3 * 2
    assert set(prompts(live)) == {f"p{number}" for number in range(ROWS)}


def test_an_interrupt_is_told_of_and_what_was_answered_is_kept(live: Live, config: Path) -> None:
    live.inference.seconds_a_word = 0.03
    command = [sys.executable, "-m", "gateway.cli", *arguments(live, config, "--concurrency", 2)]
    journal = config.parent / "out" / "rows.journal"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until_true(lambda: journal_lines(journal) > 4)
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate()
    assert (process.returncode, complaints) == (130, b"")
    assert b"Interrupted. Start it again to go on." in said
    assert 4 < journal_lines(journal) < 1 + ROWS
    assert batch(live, config) == 0
    assert sum(prompts(live).values()) <= ROWS + 2
    assert len(results(config.parent / "out")) == ROWS


def test_a_full_disk_is_told_of_and_what_was_answered_is_kept(live: Live, config: Path) -> None:
    def little_room() -> None:
        # (No file grows further: writing fails as on a full disk.)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    live.inference.says = lambda _: "word " * 40
    live.inference.echoes = False
    command = [sys.executable, "-m", "gateway.cli", *arguments(live, config)]
    done = subprocess.run(
        command, preexec_fn=little_room, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "File too large" in line and "start it again" in line
    written = journal_lines(config.parent / "out" / "rows.journal") - 1
    assert 10 < written < ROWS
    assert batch(live, config) == 0
    assert len(results(config.parent / "out")) == ROWS
    assert sum(prompts(live).values()) <= ROWS + 8


def test_a_damaged_line_is_asked_again(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch(live, config) == 0
    before = results(config.parent / "out")
    journal = config.parent / "out" / "rows.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[5], lines[9] = lines[5][:12] + b"\n", b"\0" * 40 + b"\n"
    journal.write_bytes(b"".join(lines))
    live.inference.asked.clear()
    assert batch(live, config) == 0
    assert "2 lines of the journal cannot be read" in capsys.readouterr().out
    assert results(config.parent / "out") == before and len(live.inference.asked) == 2


def test_results_do_not_go_over_the_dataset(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (config.parent / "rows.jsonl").read_bytes()
    assert batch(live, config, "--output-dir", config.parent) == 1
    assert "written over the dataset" in capsys.readouterr().err
    assert (config.parent / "rows.jsonl").read_bytes() == before and live.inference.asked == []
    assert batch(live, config, "--output-dir", config.parent, "--name", "other") == 0
