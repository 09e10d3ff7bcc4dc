"""The checkpoints of a run that can be used, as OpenAI's. Knows no HTTP."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Literal

from pydantic import BaseModel

from gateway.database import Database
from gateway.openai_api import ids
from gateway.openai_api.jobs import run_behind, seconds
from gateway.paging import MAX_LIMIT, Page
from gateway.run_views import CheckpointView, list_checkpoints
from shared.errors import InvalidRequest

DEFAULT_LIMIT = 10
_STEP = re.compile(r"[0-9]{1,9}")


class CheckpointMetrics(BaseModel):
    """Validation is done on all of the validation data: ``valid`` and ``full_valid`` are one."""

    step: int
    train_loss: float | None
    train_mean_token_accuracy: float | None
    valid_loss: float | None
    valid_mean_token_accuracy: float | None
    full_valid_loss: float | None
    full_valid_mean_token_accuracy: float | None


class JobCheckpoint(BaseModel):
    """`fine_tuning.job.checkpoint`; ``created_at`` in Unix seconds."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: CheckpointMetrics


def list_job_checkpoints(
    *,
    database: Database,
    owner: str,
    job_id: str,
    after: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[JobCheckpoint]:
    """Newest first. A checkpoint whose weights newer ones have replaced is none any more."""
    with run_behind(job_id) as run_id:
        step = None if after is None else _step(run_id, after)
        try:
            there = _available(database, owner, run_id, step)
            found = list(islice(there, limit + 1))
        except InvalidRequest as error:
            raise ids.unknown_cursor(after or "") from error
        data = [_checkpoint(run_id, one) for one in found[:limit]]
    return Page(data, has_more=len(found) > limit)


def _step(run_id: str, checkpoint_id: str) -> str:
    step = checkpoint_id.removeprefix(ids.checkpoint_id(run_id, ""))
    if step == checkpoint_id or not _STEP.fullmatch(step):
        raise ids.unknown_cursor(checkpoint_id)
    return step


def _available(
    database: Database, owner: str, run_id: str, after: str | None
) -> Iterator[CheckpointView]:
    while True:
        page = list_checkpoints(
            database=database, owner=owner, run_id=run_id, after=after, limit=MAX_LIMIT
        )
        yield from (one for one in page.data if one.available)
        if not page.has_more:
            return
        after = str(page.data[-1].step)


def _checkpoint(run_id: str, view: CheckpointView) -> JobCheckpoint:
    return JobCheckpoint(
        id=ids.checkpoint_id(run_id, str(view.step)),
        created_at=seconds(view.created_at),
        fine_tuned_model_checkpoint=view.fine_tuned_model_checkpoint,
        fine_tuning_job_id=ids.job_id(run_id),
        step_number=view.step,
        metrics=CheckpointMetrics(
            step=view.step,
            train_loss=view.loss,
            train_mean_token_accuracy=view.mean_token_accuracy,
            valid_loss=view.eval_loss,
            valid_mean_token_accuracy=view.eval_mean_token_accuracy,
            full_valid_loss=view.eval_loss,
            full_valid_mean_token_accuracy=view.eval_mean_token_accuracy,
        ),
    )
