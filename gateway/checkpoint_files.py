"""Checkpoints' weights, put aside by the gateway for serving and for other runs to begin with: the
trainer drops its own as new ones come. Knows no HTTP and no database session but its own."""

import contextlib
import logging
import os
import time
from collections.abc import Collection
from pathlib import Path

from sqlmodel import col, select

from gateway.database import Database
from gateway.run_queue import continued_run
from gateway.tables import Deployment, Run
from shared.errors import InvalidData
from shared.runs import TERMINAL, FineTuneSpec
from shared.storage import (
    MANIFEST,
    Storage,
    atomic_directory,
    link_weights,
    manifest_problem,
    remove,
    set_aside,
)

log = logging.getLogger(__name__)

UNUSED_SECONDS = 3600.0


def put_aside(storage: Storage, run_id: str, step: int, *, param: str = "model") -> Path:
    """The weights of a checkpoint where the trainer drops nothing; InvalidData where there are
    none. Where that was done before, it is noted that they are wanted still."""
    target = storage.run_deployed(run_id, step)
    if (target / MANIFEST).is_file():
        with contextlib.suppress(FileNotFoundError):
            os.utime(target)
            return target
    # Twice: between two looks the trainer may turn one form of a checkpoint into the other.
    for source in 2 * storage.run_weights(run_id, step):
        try:
            if manifest_problem(source) is None:
                with atomic_directory(target) as temporary:
                    link_weights(source, temporary)
                return target
        except FileNotFoundError:
            log.info("Checkpoint %s of %s was dropped meanwhile.", source.name, run_id)
    raise InvalidData(
        f"{param}: the run {run_id} has no checkpoint at step {step} any more. "
        f"GET /api/runs/{run_id}/checkpoints lists those that are available.",
        param=param,
    )


def forget(
    database: Database, storage: Storage, run_id: str, step: int, *, unused_for: float = 0.0
) -> None:
    """Remove what was put aside, unless something else needs it still or it was wanted within the
    last ``unused_for`` seconds."""
    with database.write() as session:
        served = select(Deployment.name).where(
            Deployment.run_id == run_id, Deployment.checkpoint == step
        )
        if session.exec(served).first() is not None:
            return
        live = select(Run).where(col(Run.status).not_in(TERMINAL))
        for run in session.exec(live):
            origin = continued_run(FineTuneSpec.model_validate(run.spec))
            if origin is not None and (origin.run_id, origin.step) == (run_id, step):
                return
        folder = storage.run_deployed(run_id, step)
        if unused_for and _wanted_at(folder) > time.time() - unused_for:
            return
        aside = set_aside(folder)
    remove(aside)


def forget_unused(
    database: Database,
    storage: Storage,
    *,
    loaded: Collection[tuple[str | None, int | None]],
    unused_for: float = UNUSED_SECONDS,
) -> None:
    """Remove what was put aside for requests that came long ago: unless it is ``loaded`` (run and
    step), deployed, or what a run is to begin with. The next request puts it aside again, as long
    as its run has that checkpoint."""
    limit = time.time() - unused_for
    for folder in storage.root.glob("runs/*/deployed/step-*"):
        run_id, step = folder.parent.parent.name, folder.name.removeprefix("step-")
        if not step.isdecimal() or (run_id, int(step)) in loaded or _wanted_at(folder) > limit:
            continue
        forget(database, storage, run_id, int(step), unused_for=unused_for)


def _wanted_at(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
