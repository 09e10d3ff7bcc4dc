"""One warm PlantUML process: a source goes down its pipe, a picture or an error comes back.

Knows nothing of caches or cleaning. It is never asked for two things at a time.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
import tempfile
from pathlib import Path

from inference_service.plantuml.programs import Programs, write_font_configuration
from shared.diagrams import DiagramFormat

logger = logging.getLogger(__name__)

MAX_PICTURE_BYTES = 5 * 2**20
LIMIT_SIZE = "4096"
LAUNCH = Path(__file__).with_name("launch.py")


class ChildDied(Exception):
    """The process ended instead of answering."""


class ChildHung(Exception):
    """No answer in time; the process was killed."""


class PictureTooLarge(Exception):
    """The answer grew too large; the process was killed."""


class Child:
    """A renderer process for one picture format. A call after a failure starts a new one."""

    def __init__(self, programs: Programs, picture: DiagramFormat) -> None:
        self._programs, self._format = programs, picture
        self._process: asyncio.subprocess.Process | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._delimiter = b""
        self._drain: asyncio.Task[None] | None = None
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """The process that will be asked next; None where one must be started first."""
        if self._process is None or self._process.returncode is not None:
            return None
        return self._process.pid

    async def ask(self, text: bytes, timeout: float) -> bytes:
        """The answer to one source: a picture, or lines that begin with ``ERROR``."""
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(text)
        except TimeoutError as error:
            await self.stop()
            raise ChildHung from error
        except asyncio.LimitOverrunError as error:
            await self.stop()
            raise PictureTooLarge from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            await self.stop()
            raise ChildDied from error
        except BaseException:
            # Whoever waited has gone; the answer would be taken for the next one's.
            await self.stop()
            raise

    async def _exchange(self, text: bytes) -> bytes:
        if self.pid is None:
            await self.stop()
            await self._start()
        process = self._process
        assert process and process.stdin and process.stdout  # noqa: S101 - just started
        process.stdin.write(text)
        await process.stdin.drain()
        answer = await process.stdout.readuntil(self._delimiter)
        return answer.removesuffix(self._delimiter)

    async def _start(self) -> None:
        self.starts += 1
        self._folder = tempfile.TemporaryDirectory(
            prefix="genplat-plantuml-", ignore_cleanup_errors=True
        )
        folder = Path(self._folder.name)
        work = folder / "empty"
        work.mkdir()
        # Nothing that a diagram contains can forge it: it is different in each process.
        delimiter = f"<<{secrets.token_hex(16)}>>"
        self._delimiter = f"{delimiter}\n".encode()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(self._programs.java)),
            *("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"),
            *("-Djava.awt.headless=true", "-Dfile.encoding=UTF-8"),
            f"-Dsun.awt.fontconfig={write_font_configuration(folder)}",
            *("-DPLANTUML_SECURITY_PROFILE=SANDBOX", f"-DPLANTUML_LIMIT_SIZE={LIMIT_SIZE}"),
            *("-jar", str(self._programs.jar), f"-t{self._format}", "-charset", "UTF-8"),
            *("-Playout=smetana", "-graphvizdot", "/nonexistent"),
            *("-pipe", "-pipenostderr", "-pipedelimitor", delimiter),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_PICTURE_BYTES,
            cwd=work,
            env={"PATH": os.defpath, "PLANTUML_LIMIT_SIZE": LIMIT_SIZE},
            start_new_session=True,
        )
        self._drain = asyncio.create_task(_discard(self._process.stderr))

    async def stop(self) -> None:
        """Kill the process, wherever it is, and remove its folder."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                # (`process.kill` may take the exit status away from the loop that waits for it.)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
            if process.stdin:
                process.stdin.close()
        if self._drain is not None:
            self._drain.cancel()
            self._drain = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


async def _discard(stream: asyncio.StreamReader | None) -> None:
    """The layout engine chatters there, and a full pipe would stop it."""
    while stream is not None and await stream.read(65536):
        pass
