"""`genplat up` as a person types it, where it cannot start."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.launcher.lock import StackLock


def genplat(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that it said."""
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("genplat: ")
    return line


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        line = refused(genplat("up", "--no-browser", "--data-dir", str(tmp_path), "--port", port))
    assert f"Port {port}" in line


def test_a_second_stack_on_one_folder(tmp_path: Path) -> None:
    lock = StackLock(tmp_path)
    lock.take()
    line = refused(genplat("up", "--no-browser", "--data-dir", str(tmp_path), "--port", "0"))
    lock.release()
    assert f"process {os.getpid()}" in line


def test_a_bad_setting(tmp_path: Path) -> None:
    line = refused(genplat("up", "--data-dir", str(tmp_path), GENPLAT_PORT="many"))
    assert "GENPLAT_PORT" in line


@pytest.mark.parametrize(
    ("name", "value"), [("GENPLAT_MAX_ROWS", "x"), ("GENPLAT_LOG_LEVEL", "LOUD")]
)
def test_a_bad_setting_of_another_service(tmp_path: Path, name: str, value: str) -> None:
    result = genplat("up", "--port", "0", "--data-dir", str(tmp_path), **{name: value})
    assert refused(result).startswith(f"genplat: {name}: Input should be")
    assert "Starting" not in result.stdout and not (tmp_path / "valkey").exists()


def test_a_redis_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as listener:  # bound, but nobody listens
        listener.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        line = refused(
            genplat(
                "up", "--port", "0", "--no-browser", "--data-dir", str(tmp_path),
                GENPLAT_REDIS_URL=url,
            )
        )  # fmt: skip
    assert "GENPLAT_REDIS_URL" in line


@pytest.mark.parametrize("url", ["127.0.0.1:6379", "", "redis://:secret/word@127.0.0.1:6379/0"])
def test_a_redis_address_that_is_none(tmp_path: Path, url: str) -> None:
    line = refused(genplat("up", "--port", "0", "--data-dir", str(tmp_path), GENPLAT_REDIS_URL=url))
    assert "GENPLAT_REDIS_URL is no address" in line and "redis://:password@host" in line
    assert "secret" not in line


def test_a_database_address_that_is_none(tmp_path: Path) -> None:
    line = refused(
        genplat(
            "up", "--port", "0", "--no-browser", "--data-dir", str(tmp_path),
            GENPLAT_DATABASE_URL="postgresql://me:secret@db:port/genplat",
        )
    )  # fmt: skip
    assert "GENPLAT_DATABASE_URL" in line and "secret" not in line


def test_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = refused(genplat("up", "--data-dir", str(tmp_path / "file")))
    assert "cannot be written" in line
