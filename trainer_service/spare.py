"""A training child that waits for its run with all libraries loaded, which takes longer than all
else before a first step. Knows neither runs nor torch.

It is started as every child, by the worker itself, and has the same guards; it is no fork, so there
are no threads, locks or devices of another process in it. There is one at most, and none beside a
child in training, which needs the memory and the cores for itself.
"""

import asyncio
import contextlib
import logging
import os
from pathlib import Path

from trainer_service.child_process import child_environment, kill_group, start_module

log = logging.getLogger(__name__)

CHILD_MODULE = "trainer_service.child"
# The child's arguments: its parent's process id follows, and its command comes through stdin.
WAIT = "--wait"


class Spare:
    """The child that waits, if there is one."""

    def __init__(self, *, wanted: bool = True) -> None:
        self._wanted = wanted
        self._process: asyncio.subprocess.Process | None = None

    async def prepare(self) -> None:
        """Start one where none waits. One that cannot be started is no loss: runs start without."""
        if not self._wanted or (self._process is not None and self._process.returncode is None):
            return
        try:
            process = await start_module(
                CHILD_MODULE,
                WAIT,
                str(os.getpid()),
                environment=child_environment(os.environ),
                piped=True,
            )
        except OSError as error:
            log.warning("No training process can be kept ready: %s", error)
            return
        self._process = process
        if not self._wanted:
            # `drop` came while it was being started.
            await self.drop()

    def take(self, command: Path) -> asyncio.subprocess.Process | None:
        """Hand the command file to the child that waits, which then is the caller's; None where
        there is none."""
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.returncode is not None:
            return None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(f"{command}\n".encode())
        return process

    async def drop(self) -> None:
        """End the child that waits; none is started any more."""
        self._wanted = False
        process, self._process = self._process, None
        if process is not None:
            kill_group(process)
            await process.wait()
