"""The merged log: names before lines, colour only for terminals, no secrets in the file."""

import io
from pathlib import Path

import pytest

from gateway.launcher.logs import MAX_LINE, MergedLog


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def logged(tmp_path: Path, stream: io.StringIO, *lines: str) -> str:
    log = MergedLog(tmp_path, stream)
    for line in lines:
        log.write("gateway", line)
    log.close()
    return log.path.read_text()


def test_each_line_comes_after_its_service(tmp_path: Path) -> None:
    stream = io.StringIO()
    text = logged(tmp_path, stream, "started\n", "ready\n")
    assert text == stream.getvalue() == "gateway   | started\ngateway   | ready\n"


def test_a_terminal_gets_colour_and_the_file_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    assert "\x1b" not in logged(tmp_path, terminal, "ready")
    assert terminal.getvalue() == "\x1b[36mgateway  \x1b[0m | ready\n"


def test_no_color_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    logged(tmp_path, terminal, "ready")
    assert "\x1b" not in terminal.getvalue()


def test_of_a_progress_bar_the_last_state_is_kept(tmp_path: Path) -> None:
    assert logged(tmp_path, io.StringIO(), "10%\r50%\r100%\n") == "gateway   | 100%\n"


def test_an_endless_line_is_cut(tmp_path: Path) -> None:
    assert len(logged(tmp_path, io.StringIO(), "x" * 100_000)) < MAX_LINE + 20


def test_what_is_said_to_the_person_is_not_in_the_file(tmp_path: Path) -> None:
    stream = io.StringIO()
    log = MergedLog(tmp_path, stream)
    log.say("the secret link")
    log.close()
    assert stream.getvalue() == "the secret link\n"
    assert not log.path.exists()


def test_a_closed_terminal_does_not_stop_the_log(tmp_path: Path) -> None:
    stream = io.StringIO()
    log = MergedLog(tmp_path, stream)
    stream.close()
    log.write("gateway", "still here")
    log.close()
    assert "still here" in log.path.read_text()
