"""Has one pre-flight check made in a child process that can be stopped; knows no queue and no
torch."""

import asyncio
import contextlib
import json
import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from shared.preflight import PreflightCommand, PreflightFile, PreflightReport
from shared.storage import Storage, atomic_file
from trainer_service import exit_codes
from trainer_service.child_process import child_environment, start_module, stop_process
from trainer_service.settings import TrainerSettings

log = logging.getLogger(__name__)

CHILD_MODULE = "trainer_service.preflight"
GRACE_SECONDS = 5.0
# Reports show rows of datasets, which may be deleted: none is kept for long.
KEPT_SECONDS = 24 * 3600
_REASONS = {
    exit_codes.DEVICE_OUT_OF_MEMORY: "The device ran out of memory while the run was tried. "
    "Lower per_device_train_batch_size or max_length.",
    exit_codes.DISK_FULL: "The disk with the data folder is full. Free space and check again.",
}


class Preflight:
    """One check. Its child writes the report; where it dies before, this says why. ``busy``: the
    device trains a run, which a warm-up would slow down."""

    def __init__(self, command: PreflightCommand, *, busy: bool, settings: TrainerSettings) -> None:
        self.command = command
        self.busy = busy
        self.settings = settings
        self.storage = Storage(settings.root)
        self.process: asyncio.subprocess.Process | None = None
        self.stopping = False

    @property
    def request_id(self) -> str | None:
        return self.command.run.request_id

    async def run(self) -> None:
        """Check to the end, unless a stop came before the start."""
        if self.stopping:
            return
        _sweep(self.storage.preflight(self.command.id).parent)
        file = self.storage.preflight(self.command.id).with_suffix(".command.json")
        wanted = {
            "command": self.command.model_dump(mode="json"),
            "data_dir": str(self.storage.root),
            "busy": self.busy,
            "parent_pid": os.getpid(),
        }
        try:
            with atomic_file(file) as handle:
                handle.write(json.dumps(wanted).encode())
            await self._see_through(str(file))
        finally:
            file.unlink(missing_ok=True)

    async def _see_through(self, file: str) -> None:
        before = _changed_at(self.storage, self.command.id)
        process = await start_module(
            CHILD_MODULE, file, environment=child_environment(os.environ), piped=False
        )
        self.process = process
        if self.stopping:
            # `stop` came while the child was starting, and found none.
            await self.stop()
        code = await process.wait()
        log.info("The check %s ended with code %d.", self.command.id, code)
        if not self.stopping and _changed_at(self.storage, self.command.id) == before:
            self._say_why(code)

    async def stop(self) -> None:
        """End the child, or keep it from being started."""
        self.stopping = True
        if self.process is not None:
            await stop_process(self.process, grace_seconds=GRACE_SECONDS)

    def _say_why(self, code: int) -> None:
        reason = _REASONS.get(code, "The check ended without a report; the trainer's log has more.")
        if code == -9:
            reason = (
                "The check was killed, most likely because the machine ran out of memory. Choose "
                "a smaller model or method qlora."
            )
        report = PreflightReport(
            id=self.command.id,
            status="failed",
            created_at=datetime.now(UTC),
            final=False,
            spec=self.command.run.spec,
            datasets=self.command.datasets,
            problems=[reason],
        )
        write_report(self.storage, PreflightFile(owner=self.command.owner, report=report))


def write_report(storage: Storage, file: PreflightFile) -> None:
    with atomic_file(storage.preflight(file.report.id)) as handle:
        handle.write(file.model_dump_json().encode())


def _sweep(folder: Path) -> None:
    """Drop old reports, and what a check that was killed left behind."""
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                path.unlink()


def _changed_at(storage: Storage, preflight_id: str) -> int | None:
    try:
        return storage.preflight(preflight_id).stat().st_mtime_ns
    except OSError:
        return None
