"""Renders PlantUML sources to SVG and PNG, with a cache; knows no model and no web framework."""

import asyncio
import base64
import contextlib
import hashlib
import logging
import re
import tempfile
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inference_service.plantuml.child import (
    MAX_PICTURE_BYTES,
    Child,
    ChildDied,
    ChildHung,
    PictureTooLarge,
)
from inference_service.plantuml.programs import Programs
from inference_service.plantuml.sanitizing import UnsafePicture, clean_png, clean_svg
from inference_service.plantuml.source import check_source, pipe_text
from shared.diagrams import DiagramFormat, RenderedDiagram, RenderError
from shared.errors import Unavailable

logger = logging.getLogger(__name__)

# The first version with security profiles; older ones read files whatever they are told.
OLDEST_SAFE = (1, 2020, 11)
MAX_QUEUE = 64
CACHE_BYTES = 64 * 2**20
_CRASH = re.compile(r"An error has occured : ([\w.]+)")


class RenderFailed(Exception):
    """A source that does not become a picture, in the renderer's words."""

    def __init__(self, error: RenderError, *, lasting: bool = True) -> None:
        super().__init__(error.message)
        self.error = error
        # Whether it would be so the next time too.
        self.lasting = lasting


class Pictures(Protocol):
    """What makes pictures of checked sources: child processes, or a server."""

    async def start(self) -> None:
        """Be ready, or raise `Unavailable` with the reason."""

    async def draw(self, source: str, picture: DiagramFormat) -> bytes:
        """The picture; raises `RenderFailed`."""

    async def stop(self) -> None:
        """Leave nothing behind."""

    @property
    def starts(self) -> int:
        """Processes that were started."""
        ...


class LocalPictures:
    """Two warm processes, one a format, each drawing one picture at a time."""

    def __init__(self, programs: Programs, *, timeout: float, start_timeout: float) -> None:
        self._timeout, self._start_timeout = timeout, start_timeout
        self._children = {name: Child(programs, name) for name in ("svg", "png")}
        self._locks = {name: asyncio.Lock() for name in ("svg", "png")}
        self._waiting = 0

    @property
    def starts(self) -> int:
        return sum(child.starts for child in self._children.values())

    async def start(self) -> None:
        """Start both, and refuse a PlantUML that lets a diagram read files."""
        both = (self._check_safety(), self._warm_up("png"))
        # Where one fails the other is waited for: nothing may start behind a `stop`.
        for outcome in await asyncio.gather(*both, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def stop(self) -> None:
        for child in self._children.values():
            await child.stop()

    async def draw(self, source: str, picture: DiagramFormat) -> bytes:
        async with self._turn(picture):
            try:
                answer = await self._ask_twice(picture, pipe_text(source))
            except ChildDied:
                raise _failed("The renderer broke off on this source.") from None
            except ChildHung:
                message = f"The renderer did not finish within {self._timeout:g} seconds."
                raise _failed(message, lasting=False) from None
            except PictureTooLarge:
                raise _failed(f"The {picture} picture is larger than 5 MB.") from None
        return _picture_of(answer)

    @contextlib.asynccontextmanager
    async def _turn(self, picture: DiagramFormat) -> AsyncIterator[None]:
        if self._waiting >= MAX_QUEUE:
            raise Unavailable("Too many diagrams wait to be rendered.", retry_after=2)
        self._waiting += 1
        try:
            async with self._locks[picture]:
                yield
        finally:
            self._waiting -= 1

    async def _ask_twice(self, picture: DiagramFormat, text: bytes) -> bytes:
        """A process that died may have been killed from outside, so ask a new one."""
        child = self._children[picture]
        if child.pid is None:
            await self._warm_up(picture)
        try:
            return await child.ask(text, self._timeout)
        except ChildDied:
            await self._warm_up(picture)
            return await child.ask(text, self._timeout)

    async def _warm_up(self, picture: DiagramFormat) -> bytes:
        """Start a process; its first answer takes far longer than all others."""
        text = pipe_text("@startuml\ntitle %version()\nA -> B\n@enduml")
        with _failures_named():
            return await self._children[picture].ask(text, self._start_timeout)

    async def _check_safety(self) -> None:
        greeting = (await self._warm_up("svg")).decode(errors="replace")
        found = re.search(r">(\d+)\.(\d{4})\.(\d+)", greeting)
        version = tuple(int(part) for part in found.groups()) if found else (0,)
        if version < OLDEST_SAFE:
            raise Unavailable(f"PlantUML {'.'.join(map(str, version))} is too old to be safe.")
        with _failures_named(), tempfile.TemporaryDirectory(prefix="genplat-canary-") as folder:
            canary = Path(folder) / "canary"
            canary.write_text("title canary-was-read\n", encoding="utf-8")
            text = pipe_text(f"@startuml\n!include {canary}\nA -> B\n@enduml")
            answer = await self._children["svg"].ask(text, self._start_timeout)
        if b"canary-was-read" in answer or not answer.startswith(b"ERROR"):
            raise Unavailable("PlantUML is refused: a diagram could read a local file.")


@contextlib.contextmanager
def _failures_named() -> Iterator[None]:
    """Turns whatever keeps a process from starting into `Unavailable` with the cause."""
    try:
        yield
    except (ChildDied, ChildHung, PictureTooLarge) as error:
        raise Unavailable(
            f"PlantUML does not start ({type(error).__name__}); check GENPLAT_JAVA and "
            "GENPLAT_PLANTUML_JAR."
        ) from error
    except OSError as error:
        # (Without the path: it is a new one each time, and says nothing.)
        raise Unavailable(f"PlantUML does not start: {error.strerror or error}.") from error


def _failed(message: str, *, line: int | None = None, lasting: bool = True) -> RenderFailed:
    return RenderFailed(RenderError(line=line, message=message), lasting=lasting)


def _picture_of(answer: bytes) -> bytes:
    """The picture in a renderer's answer, which may be an error or the picture of a crash."""
    if answer.startswith(b"ERROR\n"):
        _, number, *words = answer.decode(errors="replace").splitlines()
        # The renderer counts from 0.
        line = int(number) + 1 if number.strip().lstrip("-").isdigit() else None
        message = " ".join(word.strip() for word in words if word.strip())
        raise _failed(message or "Syntax error", line=line if line and line > 0 else None)
    if answer.startswith(b"<") and b"data-diagram-type=" not in answer[:1000]:
        text = re.sub(r"<[^>]*>", " ", answer.decode(errors="replace"))
        if crash := _CRASH.search(re.sub(r"\s+", " ", text)):
            raise _failed(f"The renderer crashed on this source ({crash[1]}).")
    return answer


@dataclass(frozen=True)
class _Entry:
    diagram: RenderedDiagram
    size: int


class Renderer:
    """Sources in, cleaned pictures or the renderer's words out; the same source is drawn once."""

    def __init__(self, pictures: Pictures, *, cache_entries: int = 256) -> None:
        self._pictures = pictures
        self._cache: OrderedDict[str, _Entry] = OrderedDict()
        self._cache_entries = cache_entries
        # For metrics: sources that were drawn before, are drawn now, and how long that took.
        self.cache_hits = self.drawing = self.drawn = 0
        self.drawing_seconds = 0.0
        # Until the first start has ended, well or badly.
        self.starting = True
        self.problem: str | None = "The renderer is starting."

    async def start(self) -> None:
        """Get ready; afterwards `problem` says why not, if so. May be tried again and again."""
        try:
            await self._pictures.start()
        except Unavailable as error:
            self._note(error.message)
            await self._pictures.stop()
        except Exception as error:
            # A bug: it must be told, and must not end the attempts.
            self._note(f"The renderer fails at its start ({type(error).__name__}).", error)
            await self._pictures.stop()
        else:
            if not self.starting:
                logger.info("diagrams can be drawn again")
            self.problem = None
        self.starting = False

    def _note(self, problem: str, bug: Exception | None = None) -> None:
        """Keep a start's problem; the log hears of it once, however often it is tried again."""
        if problem != self.problem:
            logger.warning("no diagrams: %s", problem, exc_info=bug)
        self.problem = problem

    async def stop(self) -> None:
        self.problem = "The renderer has stopped."
        await self._pictures.stop()

    @property
    def starts(self) -> int:
        return self._pictures.starts

    async def render(self, source: str) -> RenderedDiagram:
        """The diagram with both pictures, or with the error; ``attempts`` stays 0."""
        if self.problem:
            raise Unavailable(self.problem, code="renderer_unavailable", retry_after=5)
        if error := check_source(source):
            return RenderedDiagram(source=source, rendered=False, error=error)
        key = hashlib.sha256(source.encode()).hexdigest()
        if key in self._cache:
            self._cache.move_to_end(key)
            self.cache_hits += 1
            return self._cache[key].diagram
        try:
            diagram = await self._timed(source)
        except RenderFailed as failure:
            diagram = RenderedDiagram(source=source, rendered=False, error=failure.error)
            if not failure.lasting:
                return diagram
        self._remember(key, diagram)
        return diagram

    async def _timed(self, source: str) -> RenderedDiagram:
        self.drawing += 1
        began = time.perf_counter()
        try:
            return await self._draw(source)
        finally:
            self.drawing -= 1
            self.drawn += 1
            self.drawing_seconds += time.perf_counter() - began

    async def _draw(self, source: str) -> RenderedDiagram:
        svg = await self._pictures.draw(source, "svg")
        png = await self._pictures.draw(source, "png")
        if max(len(svg), len(png)) > MAX_PICTURE_BYTES:
            raise _failed("The picture is larger than 5 MB.")
        try:
            text, pixels = clean_svg(svg.decode()), clean_png(png)
        except (UnsafePicture, UnicodeDecodeError) as error:
            raise _failed("The renderer's answer is no clean picture.") from error
        encoded = base64.b64encode(pixels).decode()
        return RenderedDiagram(source=source, rendered=True, svg=text, png=encoded)

    def _remember(self, key: str, diagram: RenderedDiagram) -> None:
        size = len(diagram.source) + len(diagram.svg or "") + len(diagram.png or "")
        self._cache[key] = _Entry(diagram, size)
        while self._cache and (
            len(self._cache) > self._cache_entries
            or sum(entry.size for entry in self._cache.values()) > CACHE_BYTES
        ):
            self._cache.popitem(last=False)
