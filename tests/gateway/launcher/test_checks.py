"""Each obstacle to a start is one clear line."""

import os
import socket
import threading
from pathlib import Path
from typing import NoReturn

import pytest

from gateway.launcher import checks
from gateway.launcher.lock import LOCK_FILE, StackLock, running_stack
from gateway.launcher.problems import LaunchProblem
from gateway.platform import find_platform
from gateway.settings import GatewaySettings


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


FOREIGN = r"is no address of this machine \(.+\)\. Choose another with --host"


def test_a_foreign_address_is_named() -> None:
    # Of a block that is for documents alone.
    with pytest.raises(LaunchProblem, match=rf"192\.0\.2\.1 {FOREIGN}") as caught:
        checks.check_port("192.0.2.1", 8000)
    assert "port" not in str(caught.value)


def test_a_name_that_nobody_knows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some name servers know every name: the answer of a plain one stands in."""

    def unknown(*_arguments: object, **_options: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(LaunchProblem, match=f"no-such-host {FOREIGN}"):
        checks.check_port("no-such-host", 8000)


def test_a_name_that_cannot_even_be_asked_for_is_named() -> None:
    with pytest.raises(LaunchProblem, match=FOREIGN):
        checks.check_port("a..b", 8000)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"GENPLAT_MAX_ROWS": "x"}, "GENPLAT_MAX_ROWS: Input should be a valid integer"),
        ({"GENPLAT_RENDER_TIMEOUT_SECONDS": "0"}, "GENPLAT_RENDER_TIMEOUT_SECONDS: "),
        ({"GENPLAT_LOG_LEVEL": "LOUD"}, "GENPLAT_LOG_LEVEL: Input should be 'DEBUG', 'INFO'"),
        ({"GENPLAT_HEARTBEAT_SECONDS": "-1"}, "GENPLAT_HEARTBEAT_SECONDS: "),
        ({"GENPLAT_MAX_ROWS": "0", "GENPLAT_MAX_WAITING": "-1"}, "GENPLAT_MAX_ROWS: .*MAX_WAITING"),
    ],
)
def test_a_services_own_setting_that_cannot_be_read_is_named(
    wrong: dict[str, str], said: str
) -> None:
    with pytest.raises(LaunchProblem, match=f"^{said}") as caught:
        checks.check_service_settings({**os.environ, **wrong})
    assert len(str(caught.value).splitlines()) == 1


def test_settings_that_can_be_read_keep_nobody_from_starting() -> None:
    right = {"GENPLAT_MAX_ROWS": "8", "GENPLAT_LOG_LEVEL": "debug", "GENPLAT_WORKER_NAME": "me"}
    checks.check_service_settings({**os.environ, **right})


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


def test_commands_wait_for_a_stack_that_is_being_started(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path)
    assert find_platform(settings, "") == ""
    lock = StackLock(tmp_path)
    lock.take()
    try:
        ready = threading.Timer(0.5, lambda: lock.note(pid=1, url="http://127.0.0.1:1"))
        ready.start()
        assert find_platform(settings, "") == "http://127.0.0.1:1"
        ready.join()
        assert find_platform(settings, "http://other") == "http://other"
    finally:
        lock.release()
