"""What goes wrong around the real renderer: it hangs, dies, is unsafe, or cannot start at all."""

import asyncio
import errno
import logging
import os
import signal
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from inference_service.plantuml.programs import Programs, find_programs
from inference_service.plantuml.renderer import Renderer
from shared.errors import Unavailable
from tests.inference_service.plantuml.test_renderer import local_pictures, render

pytestmark = pytest.mark.anyio


async def test_a_hanging_render_is_killed_and_the_next_one_is_fine() -> None:
    pictures = local_pictures(timeout=1.5)
    renderer = Renderer(pictures)
    await renderer.start()
    try:
        slow = "!function $f($n)\n!if $n < 1\n!return 1\n!endif\n"
        slow += "!return $f($n - 1) + $f($n - 1)\n!endfunction\nA -> B : $f(40)"
        started = time.perf_counter()
        diagram = await render(renderer, slow)
        assert diagram.error is not None
        assert "1.5 seconds" in diagram.error.message
        assert time.perf_counter() - started < 5
        assert (await render(renderer, "A -> B")).rendered
    finally:
        await renderer.stop()


async def test_no_process_is_left_after_a_stop() -> None:
    pictures = local_pictures()
    await pictures.start()
    pids = [child.pid for child in pictures._children.values()]
    await pictures.stop()
    for pid in pids:
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def fake_java(folder: Path, script: str) -> Path:
    path = folder / "java"
    path.write_text(f"#!{sys.executable}\nimport sys\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


READS_FILES = """
delimiter = sys.argv[-1]
for line in sys.stdin:
    if line.startswith("!include"):
        print(open(line.split()[1]).read())
    if line.startswith("@enduml"):
        print("<svg>>1.2026.2<</svg>" + delimiter, flush=True)
"""
TOO_OLD = """
for line in sys.stdin:
    if line.startswith("@enduml"):
        print("<svg>>1.2020.02<</svg>" + sys.argv[-1], flush=True)
"""
DIES_AT_ITS_SECOND = """
for line in sys.stdin:
    if line.startswith("!include"):
        sys.exit(3)
    if line.startswith("@enduml"):
        print("<svg>>1.2026.2<</svg>" + sys.argv[-1], flush=True)
"""
SLOW_TO_START = "import time\ntime.sleep(1.5)\n" + DIES_AT_ITS_SECOND


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (READS_FILES, "could read a local file"),
        (TOO_OLD, "too old"),
        ("sys.exit(3)", "does not start"),
        (DIES_AT_ITS_SECOND, "does not start"),
    ],
)
async def test_an_unsafe_or_broken_renderer_is_refused(
    tmp_path: Path, script: str, problem: str
) -> None:
    jar = find_programs(None, None).jar
    programs = Programs(java=fake_java(tmp_path, script), jar=jar)
    renderer = Renderer(local_pictures(programs=programs))
    await renderer.start()
    assert problem in (renderer.problem or "")
    with pytest.raises(Unavailable):
        await render(renderer, "A -> B")


async def test_a_full_disk_is_named_and_the_next_start_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    renderer = Renderer(local_pictures())
    caplog.set_level(logging.INFO, "inference_service.plantuml.renderer")

    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x")

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", full)
        for _ in range(3):
            await renderer.start()
    assert renderer.problem == "PlantUML does not start: No space left on device."
    assert not renderer.starting
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    await renderer.start()
    try:
        assert renderer.problem is None
        assert (await render(renderer, "A -> B")).rendered
        assert caplog.records[-1].message == "diagrams can be drawn again"
    finally:
        await renderer.stop()


async def test_a_machine_without_free_processes_is_named_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spawn = asyncio.create_subprocess_exec
    spawned: list[asyncio.subprocess.Process] = []

    async def only_one(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        if "-tsvg" in command:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        await asyncio.sleep(0.2)
        spawned.append(await spawn(*command, **options))
        return spawned[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", only_one)
    renderer = Renderer(local_pictures())
    await renderer.start()
    assert os.strerror(errno.EAGAIN) in (renderer.problem or "")
    # The other one was on its way: a start is over only when both are.
    assert [process.returncode for process in spawned] == [-signal.SIGKILL]


async def test_a_process_that_died_while_idle_gets_the_time_of_a_start(tmp_path: Path) -> None:
    programs = Programs(fake_java(tmp_path, SLOW_TO_START), find_programs(None, None).jar)
    pictures = local_pictures(timeout=0.8, programs=programs)
    child = pictures._children["svg"]
    try:
        assert await pictures.draw("@startuml\nA -> B\n@enduml", "svg")
        assert child.pid
        assert child._process
        os.kill(child.pid, signal.SIGKILL)
        await child._process.wait()
        assert child.pid is None
        assert await pictures.draw("@startuml\nA -> B\n@enduml", "svg")
    finally:
        await pictures.stop()


def test_missing_programs_are_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="GENPLAT_JAVA"):
        find_programs(tmp_path / "java", None)
    with pytest.raises(Unavailable, match="GENPLAT_PLANTUML_JAR"):
        find_programs(None, tmp_path / "plantuml.jar")
