"""`genplat demo` around its main job: what it starts or uses, how it ends, and that its key ends
with it. The real launcher, of a platform that is one sleeping program and a small API."""

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import cli, keys
from gateway.client import CommandFailed
from gateway.database import Database, make_engine
from gateway.demo import demo
from gateway.launcher.lock import StackLock, running_stack
from gateway.launcher.stack import Stack
from gateway.launcher.supervisor import Program
from gateway.settings import GatewaySettings
from tests.gateway.demo.fake_platform import RUN, FakePlatform
from tests.gateway.launcher.test_supervisor import SLEEP, alive

Platform = tuple[str, type[FakePlatform]]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(data_dir=tmp_path / "data", port=0)


@pytest.fixture
def started(platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """What the launcher starts in the place of the services: one program, which notes its id."""
    note = tmp_path / "pid"
    code = f"import os; open({str(note)!r}, 'w').write(str(os.getpid())); {SLEEP}"
    program = Program(
        name="platform",
        command=(sys.executable, "-c", code),
        environment=dict(os.environ),
        is_ready=lambda: note.exists() and bool(note.read_text()),
    )
    stack = Stack(
        programs=(program,),
        url=platform[0],
        login_url=f"{platform[0]}/login?token=t",
        diagram_problem=lambda: None,
    )
    monkeypatch.setattr("gateway.launcher.plan", lambda *_: stack)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield note
    for number, handler in before.items():
        signal.signal(number, handler)


def works(secret: str, settings: GatewaySettings) -> bool:
    database = Database(make_engine(settings.sqlalchemy_url))
    try:
        return keys.authenticate(database=database, secret=secret) is not None
    finally:
        database.close()


def the_secret_of(platform: Platform) -> str:
    (secret,) = platform[1].secrets
    return secret


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class Impatient(io.StringIO):
    """Somebody who presses Ctrl-C as soon as it is said what that does."""

    def write(self, text: str) -> int:
        if "Ctrl-C stops it." in text:
            interrupt()
        return super().write(text)


def test_a_demo_that_shall_leave_ends_with_its_platform(
    platform: Platform, settings: GatewaySettings, started: Path
) -> None:
    output = io.StringIO()
    with pytest.raises(SystemExit) as left:
        demo(settings, browser=False, leave=True, output=output)
    assert left.value.code == 0
    assert not alive(int(started.read_text()))
    assert (settings.root / "demo.json").is_file() and "diagrams that render" in output.getvalue()
    assert "stays up" not in output.getvalue()
    assert not works(the_secret_of(platform), settings)


def test_a_demo_that_is_done_stays_until_it_is_interrupted(
    platform: Platform, settings: GatewaySettings, started: Path
) -> None:
    platform[1].while_training = staticmethod(
        lambda: (settings.root / "seen").write_text(str(running_stack(settings.root)))
    )
    output = Impatient()
    assert demo(settings, browser=False, leave=False, output=output) == 0
    assert f"Log in here:\n\n    {platform[0]}/login?token=t" in output.getvalue()
    assert platform[0] in (settings.root / "seen").read_text()
    assert running_stack(settings.root) is None and not alive(int(started.read_text()))
    assert not works(the_secret_of(platform), settings)


def test_a_demo_that_is_interrupted_before_it_is_done_says_so_by_its_code(
    platform: Platform, settings: GatewaySettings, started: Path
) -> None:
    go_on = threading.Event()

    def interrupt_and_hold() -> None:
        assert works(the_secret_of(platform), settings)
        interrupt()
        go_on.wait(30)

    platform[1].while_training = staticmethod(interrupt_and_hold)
    try:
        assert demo(settings, browser=False, leave=False, output=io.StringIO()) == 130
        assert not alive(int(started.read_text()))
        assert not (settings.root / "demo.json").exists()
    finally:
        # In a process of its own the job would be gone by now.
        go_on.set()
        for thread in threading.enumerate():
            if thread.name == "work":
                thread.join(30)


def test_a_demo_that_fails_takes_its_platform_and_its_key_along(
    platform: Platform, settings: GatewaySettings, started: Path
) -> None:
    platform[1].run = {**RUN, "status": "failed", "error": {"message": "the disk is full"}}
    with pytest.raises(CommandFailed, match="the disk is full") as failed:
        demo(settings, browser=False, leave=False, output=io.StringIO())
    assert failed.value.exit_code == 1
    assert not alive(int(started.read_text()))
    assert not works(the_secret_of(platform), settings)


@pytest.fixture
def running(platform: Platform, settings: GatewaySettings) -> Iterator[None]:
    """A platform on the folder, which somebody else has started."""
    settings.root.mkdir()
    lock = StackLock(settings.root)
    lock.take()
    lock.note(pid=os.getpid(), url=platform[0])
    yield
    lock.release()


@pytest.mark.usefixtures("running")
def test_a_platform_that_runs_is_used_and_left_running(
    platform: Platform, settings: GatewaySettings, started: Path
) -> None:
    output = io.StringIO()
    assert demo(settings, browser=False, leave=False, output=output) == 0
    assert f"Using the platform that runs at {platform[0]}." in output.getvalue()
    assert not started.exists() and running_stack(settings.root) is not None
    assert (settings.root / "demo.json").is_file()
    assert not works(the_secret_of(platform), settings)


@pytest.mark.usefixtures("running")
def test_an_interrupt_on_a_platform_that_runs_ends_the_demo_and_its_key(
    platform: Platform, settings: GatewaySettings
) -> None:
    platform[1].while_training = staticmethod(interrupt)
    assert cli.main(["demo", "--data-dir", str(settings.root)]) == 130
    assert not works(the_secret_of(platform), settings)
    assert running_stack(settings.root) is not None
