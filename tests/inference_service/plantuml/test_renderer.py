"""The real renderer: every kind of diagram, the errors' lines, and what hostile sources get."""

import asyncio
import base64
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from inference_service.plantuml.programs import Programs, find_programs
from inference_service.plantuml.renderer import LocalPictures, Renderer
from inference_service.plantuml.sanitizing import PNG_SIGNATURE
from shared.diagrams import DiagramFormat, RenderedDiagram

pytestmark = pytest.mark.anyio

KINDS = {
    "sequence": "Alice -> Bob : hello\nBob --> Alice : **bold** é 日本",
    "class": 'class A {\n  +x: int\n}\nA <|-- "Ünïcode"\nA *-- B',
    "use case": "actor User\nUser --> (Log in)",
    "activity": "start\nif (ok?) then (yes)\n:go;\nelse (no)\nstop\nendif\nstop",
    "state": "[*] --> Idle\nIdle --> Busy\nstate Busy {\n [*] --> Inner\n}",
    "component": "[Web] --> [Store]\npackage P {\n [X]\n}",
    "object": "object o {\n a = 1\n}",
    "timing": 'robust "Web" as W\n@0\nW is Idle\n@100\nW is Busy',
}


def local_pictures(*, timeout: float = 10, programs: Programs | None = None) -> LocalPictures:
    return LocalPictures(programs or find_programs(None, None), timeout=timeout, start_timeout=60)


@pytest.fixture(scope="module")
async def pictures() -> AsyncIterator[LocalPictures]:
    pictures = local_pictures()
    await pictures.start()
    yield pictures
    await pictures.stop()


@pytest.fixture
async def renderer(pictures: LocalPictures) -> Renderer:
    """A fresh cache over processes that are warm already."""
    renderer = Renderer(pictures)
    renderer.problem = None
    return renderer


async def render(renderer: Renderer, body: str) -> RenderedDiagram:
    return await renderer.render(f"@startuml\n{body}\n@enduml")


async def drawn(renderer: Renderer, body: str) -> tuple[str, bytes]:
    """Both pictures of a diagram that must render."""
    diagram = await render(renderer, body)
    assert diagram.rendered, diagram.error
    assert diagram.svg is not None and diagram.png is not None
    return diagram.svg, base64.b64decode(diagram.png)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_diagram_renders(renderer: Renderer, kind: str) -> None:
    svg, png = await drawn(renderer, KINDS[kind])
    assert svg.startswith("<svg")
    assert png.startswith(PNG_SIGNATURE)


async def test_pictures_do_not_carry_their_source(
    renderer: Renderer, pictures: LocalPictures
) -> None:
    body = "A -> B\n' a remark that is in no picture"
    svg, png = await drawn(renderer, body)
    assert "plantuml" not in svg.lower() and "remark" not in svg
    assert b"plantuml" not in png.lower() and b"remark" not in png
    # The source lies compressed in chunks of text, which the renderer writes and we take out.
    assert b"Text" not in png and b"tEXt" not in png and b"zTXt" not in png
    raw = await pictures.draw(f"@startuml\n{body}\n@enduml", "png")
    assert b"Text" in raw or b"tEXt" in raw or b"zTXt" in raw


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("A -> B\nnonsense ((", 3),
        ("\n' remark\nskinparam x {\n a b\n}\nA -> B\n/' two\nlines '/\nnonsense ((", 10),
        ("A -> B\n!include /etc/passwd", 3),
        ("class A\nclass B {\n x", 3),
    ],
)
async def test_a_mistake_is_told_with_its_line(renderer: Renderer, body: str, line: int) -> None:
    diagram = await render(renderer, body)
    assert not diagram.rendered
    assert diagram.svg is None
    assert diagram.error is not None
    assert diagram.error.line == line
    assert diagram.error.message


@pytest.mark.parametrize(
    "body", ["!pragma layout elk\nclass A\nA --> B", "A -> B : <latex>x</latex>"]
)
async def test_the_picture_of_a_crash_is_no_diagram(renderer: Renderer, body: str) -> None:
    diagram = await render(renderer, body)
    assert not diagram.rendered
    assert diagram.error is not None
    assert "crashed" in diagram.error.message


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.json"
    path.write_text('{"word": "hunter2"}\ntitle hunter2\n', encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "body",
    [
        "!include {secret}",
        "!include_many {secret}",
        "!includeurl file://{secret}",
        "!import {secret}",
        '!$x = %load_json("{secret}")\nA -> B : $x',
        "A -> B : <img:{secret}>",
        'A -> B : v%getenv("SECRET_WORD")',
        "!theme hunter from {folder}",
        "!define X\n!ifdef X\n!include {secret}!0\n!endif\nA -> B",
        "!pragma graphviz_dot {secret}\nclass A",
    ],
)
async def test_a_diagram_reads_no_file_and_no_variable(
    renderer: Renderer, secret: Path, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_WORD", "hunter2")
    source = body.replace("{secret}", str(secret)).replace("{folder}", str(secret.parent))
    diagram = await render(renderer, f"{source}\nA -> B")
    assert "hunter2" not in diagram.model_dump_json()


async def test_a_diagram_fetches_nothing(renderer: Renderer) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
    for body in (
        f"!include {url}",
        f"!includeurl {url}",
        f'!$x = %load_json("{url}")\nA -> B : $x',
        f"A -> B : <img:{url}>",
        f"!theme x from {url}\nA -> B",
        f"sprite $s <img:{url}>\nA -> B : <$s>",
    ):
        await render(renderer, body)
    server.close()
    await server.wait_closed()
    assert asked == []


@pytest.mark.parametrize(
    "body",
    [
        "class A [[javascript:alert(1)]]",
        "class A [[data:text/html,alert(1)]]",
        "A -> B : <script>alert(1)</script> [[javascript:alert(1) x]]",
        'sprite s <svg width="9" height="9"><script>alert(1)</script></svg>\nA -> B : <$s>',
        "class A\nurl of A is [[data:text/html,alert(1)]]",
    ],
)
async def test_svgs_hold_no_script_and_no_strange_link(renderer: Renderer, body: str) -> None:
    svg, _ = await drawn(renderer, body)
    assert "<script" not in svg
    assert 'href="data:' not in svg
    assert 'href="javascript:' not in svg


async def test_web_links_stay(renderer: Renderer) -> None:
    svg, _ = await drawn(renderer, "class A [[https://example.com/page]]")
    assert 'href="https://example.com/page"' in svg


async def test_a_source_that_kills_its_renderer_fails_alone(renderer: Renderer) -> None:
    recursion = "!function $f($x)\n!return $f($x)\n!endfunction\nA -> B : $f(1)"
    diagram = await render(renderer, recursion)
    assert diagram.error is not None
    assert "broke off" in diagram.error.message
    assert (await render(renderer, "A -> B : after")).rendered


async def test_a_renderer_killed_from_outside_is_replaced_at_once(
    renderer: Renderer, pictures: LocalPictures
) -> None:
    await render(renderer, "A -> B : before")
    for child in pictures._children.values():
        assert child.pid
        os.kill(child.pid, signal.SIGKILL)
    assert (await render(renderer, "A -> B : after the kill")).rendered


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not met():
            await asyncio.sleep(0.005)


async def test_answers_do_not_mix_when_many_ask_and_some_leave(
    renderer: Renderer, pictures: LocalPictures
) -> None:
    async def ask(number: int) -> None:
        svg, _ = await drawn(renderer, f"A -> B : number{number}x")
        assert re.findall(r"number\d+x", svg) == [f"number{number}x"]

    tasks = [asyncio.create_task(ask(number)) for number in range(12)]
    await until(lambda: pictures._waiting == 12)
    leaving = (0, 4)  # the one whose turn it is, and one that waits
    for index in leaving:
        tasks[index].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for index, result in enumerate(results):
        if index in leaving:
            assert isinstance(result, asyncio.CancelledError)
        else:
            assert result is None


@pytest.mark.parametrize("picture", ["svg", "png"])
async def test_who_leaves_in_the_middle_leaves_no_answer_for_the_next_one(
    pictures: LocalPictures, picture: DiagramFormat
) -> None:
    mine, theirs = "@startuml\nA -> B : mine\n@enduml", "@startuml\nC -> D : theirs\n@enduml"
    expected = await pictures.draw(mine, picture)
    assert expected != await pictures.draw(theirs, picture)
    child = pictures._children[picture]
    assert child.pid
    # Stopped, it takes the source and gives no answer before it goes on.
    pid = child.pid
    os.kill(pid, signal.SIGSTOP)
    leaving = asyncio.create_task(pictures.draw(theirs, picture))
    await until(lambda: pictures._locks[picture].locked())
    waiting = asyncio.create_task(pictures.draw(mine, picture))
    await until(lambda: pictures._waiting == 2)
    leaving.cancel()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    assert await waiting == expected
    assert leaving.cancelled() and child.pid != pid
