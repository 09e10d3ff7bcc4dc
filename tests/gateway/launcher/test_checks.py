"""Each obstacle to a start is one clear line."""

import socket
from pathlib import Path

import pytest

from gateway.launcher import checks
from gateway.launcher.lock import LOCK_FILE, StackLock, running_stack
from gateway.launcher.problems import LaunchProblem


def test_an_old_python_is_named() -> None:
    with pytest.raises(LaunchProblem, match=r"needs Python 3.11 or newer; this is Python 3.9.2"):
        checks.check_python((3, 9, 2))


def test_a_missing_package_is_named_with_the_way_to_it() -> None:
    with pytest.raises(LaunchProblem, match=r"no_such_package is not installed; brings it all"):
        checks.check_modules({"json": "", "no_such_package": "brings it all"})


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(LaunchProblem, match=f"Port {port} on 127.0.0.1 .* in use.*--port"):
            checks.check_port("127.0.0.1", port)
    checks.check_port("127.0.0.1", port)


def test_a_foreign_address_is_named() -> None:
    with pytest.raises(LaunchProblem, match=r"--port|--host"):
        checks.check_port("192.0.2.1", 8000)
    with pytest.raises(LaunchProblem, match=r"no address of this machine.*--host"):
        checks.check_port("no-such-host.invalid", 8000)


def test_free_ports_are_free_and_different() -> None:
    ports = checks.free_ports(5)
    assert len(set(ports)) == 5
    for port in ports:
        checks.check_port("127.0.0.1", port)


def test_too_little_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchProblem, match=r"Only \d+ MB are free for .*--data-dir"):
        checks.check_disk(tmp_path, needed=10**18)
    checks.check_disk(tmp_path, needed=1)


def test_a_new_data_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    root = tmp_path / "some" / "data"
    checks.prepare_data_folder(root, LOCK_FILE)
    assert root.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_holds_other_things_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.txt").write_text("mine")
    checks.prepare_data_folder(tmp_path, LOCK_FILE)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LaunchProblem, match=r"cannot be written .*--data-dir"):
        checks.prepare_data_folder(tmp_path / "file" / "data", LOCK_FILE)


def test_a_data_folder_has_one_stack(tmp_path: Path) -> None:
    lock = StackLock(tmp_path)
    lock.take()
    lock.note(pid=123, url="http://127.0.0.1:8000")
    assert running_stack(tmp_path) == {"pid": 123, "url": "http://127.0.0.1:8000"}
    with pytest.raises(LaunchProblem, match=r"already runs on .* at http://127.0.0.1:8000 .*123"):
        StackLock(tmp_path).take()
    assert (tmp_path / LOCK_FILE).stat().st_mode & 0o777 == 0o600
    lock.release()
    assert running_stack(tmp_path) is None
    second = StackLock(tmp_path)
    second.take()
    second.release()
