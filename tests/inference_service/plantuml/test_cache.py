"""The renderer's memory: a source is drawn once, a passing failure is tried again."""

import struct
import zlib

import pytest

from inference_service.plantuml.renderer import Renderer, RenderFailed
from shared.diagrams import RenderError

pytestmark = pytest.mark.anyio

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'


def _chunk(kind: bytes) -> bytes:
    return struct.pack(">I", 0) + kind + struct.pack(">I", zlib.crc32(kind))


PNG = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR") + _chunk(b"IEND")


class CountingPictures:
    """Draws everything but sources with a bad word, and counts."""

    starts = 0

    def __init__(self) -> None:
        self.drawn: list[str] = []

    async def start(self) -> None:
        """Always ready."""

    async def stop(self) -> None:
        """Holds nothing."""

    async def draw(self, source: str, picture: str) -> bytes:
        self.drawn.append(picture)
        if "wrong" in source:
            raise RenderFailed(RenderError(line=2, message="Syntax error"))
        if "slow" in source:
            raise RenderFailed(RenderError(message="too slow"), lasting=False)
        return SVG if picture == "svg" else PNG


@pytest.mark.parametrize(("word", "asked"), [("fine", 2), ("wrong", 1), ("slow", 2)])
async def test_two_requests_for_one_source(word: str, asked: int) -> None:
    pictures = CountingPictures()
    renderer = Renderer(pictures)
    await renderer.start()
    first = await renderer.render(f"@startuml\n{word}\n@enduml")
    second = await renderer.render(f"@startuml\n{word}\n@enduml")
    assert first == second
    assert first.rendered == (word == "fine")
    assert len(pictures.drawn) == asked


async def test_the_least_used_source_is_forgotten_first() -> None:
    pictures = CountingPictures()
    renderer = Renderer(pictures, cache_entries=2)
    await renderer.start()
    for word in ("a", "b", "a", "c", "a"):
        await renderer.render(f"@startuml\n{word}\n@enduml")
    assert len(pictures.drawn) == 6
    await renderer.render("@startuml\nb\n@enduml")
    assert len(pictures.drawn) == 8
