"""Has one base model prepared in a child process that can be stopped; knows no queue."""

import asyncio
import logging
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from trainer_service.child_process import child_environment, start_module, stop_process
from trainer_service.settings import TrainerSettings

log = logging.getLogger(__name__)

CHILD_MODULE = "trainer_service.base_models"
# What it has written of a model goes with it: there is nothing to save.
GRACE_SECONDS = 5.0


class PrepareCommand(BaseModel):
    """The payload of a `prepare_base_model` job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_id: str = Field(min_length=1, max_length=200)
    folder: Path | None = None
    request_id: str | None = None


async def start_preparing(
    command: PrepareCommand, root: Path, *, piped: bool
) -> asyncio.subprocess.Process:
    """A child that prepares the model. Of all children it alone may hold the hub's token."""
    folder = ["--folder", str(command.folder)] if command.folder is not None else []
    return await start_module(
        CHILD_MODULE,
        "--data-dir",
        str(root),
        "--parent-pid",
        str(os.getpid()),
        *folder,
        *(["--request-id", command.request_id] if command.request_id is not None else []),
        "--",
        command.model_id,
        environment=child_environment(os.environ, "HF_TOKEN"),
        piped=piped,
    )


class Preparation:
    """One preparation. Its child says in the data folder whether it went well."""

    def __init__(self, command: PrepareCommand, *, settings: TrainerSettings) -> None:
        self.command = command
        self.settings = settings
        self.process: asyncio.subprocess.Process | None = None
        self.stopping = False

    @property
    def request_id(self) -> str | None:
        return self.command.request_id

    async def run(self) -> None:
        """Prepare to the end, unless a stop came before the start."""
        if self.stopping:
            return
        process = await start_preparing(self.command, self.settings.root, piped=False)
        self.process = process
        if self.stopping:
            # `stop` came while the child was starting, and found none.
            await self.stop()
        code = await process.wait()
        log.info("Preparing %s ended with code %d.", self.command.model_id, code)

    async def stop(self) -> None:
        """End the child, or keep it from being started."""
        self.stopping = True
        if self.process is not None:
            await stop_process(self.process, grace_seconds=GRACE_SECONDS)
