"""Checkpoints' weights, put aside by the gateway for serving and for other runs to begin with: the
trainer drops its own as new ones come. Knows no HTTP and no database session but its own."""

import logging
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


def put_aside(storage: Storage, run_id: str, step: int, *, param: str = "model") -> Path:
    """The weights of a checkpoint where the trainer drops nothing; InvalidData where there are
    none. Nothing happens where that was done before."""
    target = storage.run_deployed(run_id, step)
    if (target / MANIFEST).is_file():
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


def forget(database: Database, storage: Storage, run_id: str, step: int) -> None:
    """Remove what was put aside, unless something else needs it still."""
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
        aside = set_aside(storage.run_deployed(run_id, step))
    remove(aside)
