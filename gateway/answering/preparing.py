"""Has a base model made ready by the trainer's program for that, without a trainer."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable

from gateway.client import CommandFailed
from shared.model_library import is_prepared, preparation_failure
from shared.storage import Storage

_MODULE = "trainer_service.base_models"


async def prepare(storage: Storage, model_id: str, *, say: Callable[[str], None]) -> None:
    """Wait until the model's safetensors lie in the data folder. `CommandFailed` says why they
    cannot be had."""
    if is_prepared(storage, model_id):
        return
    say(f"Preparing {model_id} (once) …")
    process = await asyncio.create_subprocess_exec(
        # Another service: the gateway never imports it.
        sys.executable,
        "-m",
        _MODULE,
        "--data-dir",
        str(storage.root),
        "--parent-pid",
        str(os.getpid()),
        "--",
        model_id,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code:
        failure = preparation_failure(storage, model_id)
        why = failure.message if failure else f"Its preparation ended with code {code}."
        raise CommandFailed(f"model: {why}")
